// SPDX-License-Identifier: Apache-2.0
// Gathers the boxes to classify, in the frame of the features canvas.
//
// Kernel foveate_take_boxes: block (128), grid (ceil(count / 128)). A thread takes one box. No
// shared memory, no barrier. Bound: the launch; 36 bytes a box.
#ifndef FOVEATE_TAKE_BOXES_CUH
#define FOVEATE_TAKE_BOXES_CUH

#include "device/pack.cuh"

namespace foveate {

constexpr int kTakeThreads = 128;

FOVEATE_BOTH void take_item(int item, const float* boxes, const int* kept, float* taken,
                            int capacity, int count, float horizontal, float vertical) {
    if (item >= count) return;
    const int index = kept[item];
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    if (index >= 0 && index < capacity) {
        box = Access<float, 4>::load(boxes + 4LL * index);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            box.lane[i] = mul(box.lane[i], i % 2 == 0 ? horizontal : vertical);
        }
    }
    Access<float, 4>::store(taken + 4LL * item, box);
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kTakeThreads)
    foveate_take_boxes(const float* __restrict__ boxes, const int* __restrict__ kept,
                       float* __restrict__ taken, int capacity, int count, float horizontal,
                       float vertical) {
    foveate::take_item(blockIdx.x * foveate::kTakeThreads + threadIdx.x, boxes, kept, taken,
                       capacity, count, horizontal, vertical);
}

#endif
