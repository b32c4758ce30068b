// SPDX-License-Identifier: Apache-2.0
// Greedy non-maximum suppression; and the gathering of the boxes that it keeps.
//
// Kernels:
//   foveate_nms           block (256), grid (1), 1,028 bytes of static shared memory, for K boxes.
//                         One block does all of it: launches would take longer than the K * K
//                         comparisons of a few hundred boxes. Dependent passes: ceil(K / 256) to
//                         rank each 256 boxes, then 8 for every 256 boxes that are examined.
//   foveate_gather_boxes  block (128), grid (ceil(R / 128)): a thread gathers one of R boxes,
//                         scales it and moves it to the frame of the features' canvas. Bound by its
//                         launch; 36 bytes per box.
#ifndef FOVEATE_NMS_CUH
#define FOVEATE_NMS_CUH

#include "device/pack.cuh"
#include "nms/greedy.cuh"

namespace foveate {

constexpr int kGatherThreads = 128;

// `order` (capacity,) and `chosen` (limit,) are scratch memory.
__device__ inline void nms_block(const float* boxes, const float* scores, const int* count,
                                 int* order, Box* chosen, int* keep, int* keep_count, int capacity,
                                 int limit, double iou) {
    const int existing = smaller(count[0], capacity);
    const auto key_of = [scores](int index) { return score_key(scores[index]); };
    const auto box_of = [boxes](int index) { return box_at(boxes, index); };
    find_order(key_of, existing, 0, existing, order);
    const int total = choose_boxes(box_of, order, existing, limit, iou, keep, chosen);
    for (int i = total + threadIdx.x; i < limit; i += kRankThreads) keep[i] = -1;
    if (threadIdx.x == 0) keep_count[0] = total;
}

FOVEATE_BOTH void gather_item(int item, const float* boxes, const int* keep, float* gathered,
                              int capacity, int count, float horizontal, float vertical,
                              float offset) {
    if (item >= count) return;
    const int index = keep[item];
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    if (index >= 0 && index < capacity) {
        box = Access<float, 4>::load(boxes + 4LL * index);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            box.lane[i] = add(mul(box.lane[i], i % 2 == 0 ? horizontal : vertical), offset);
        }
    }
    Access<float, 4>::store(gathered + 4LL * item, box);
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_nms(const float* __restrict__ boxes, const float* __restrict__ scores,
                const int* __restrict__ count, int* __restrict__ order,
                foveate::Box* __restrict__ chosen, int* __restrict__ keep,
                int* __restrict__ keep_count, int capacity, int limit, double iou) {
    foveate::nms_block(boxes, scores, count, order, chosen, keep, keep_count, capacity, limit, iou);
}

extern "C" __global__ void __launch_bounds__(foveate::kGatherThreads)
    foveate_gather_boxes(const float* __restrict__ boxes, const int* __restrict__ keep,
                         float* __restrict__ gathered, int capacity, int count, float horizontal,
                         float vertical, float offset) {
    foveate::gather_item(blockIdx.x * foveate::kGatherThreads + threadIdx.x, boxes, keep, gathered,
                         capacity, count, horizontal, vertical, offset);
}

#endif
