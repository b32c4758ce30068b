// SPDX-License-Identifier: Apache-2.0
// Applies the box regression of the classify stage (Girshick et al., "R-CNN", appendix C).
//
// Kernel foveate_decode_boxes: block (128), grid (ceil(rows * classes / 128)). A thread decodes one
// box; deltas and results move in accesses of 16 bytes. No shared memory, no barrier.
// Bound: bytes, 32 a box.
#ifndef FOVEATE_DECODE_BOXES_CUH
#define FOVEATE_DECODE_BOXES_CUH

#include "decode_boxes/regression.cuh"

namespace foveate {

constexpr int kDecodeThreads = 128;

FOVEATE_BOTH void decode_item(long long item, const float* boxes, const float* deltas,
                              float* results, int rows, int classes, const Normalisation& n,
                              int height, int width) {
    if (item >= static_cast<long long>(rows) * classes) return;
    const Pack<4> box = Access<float, 4>::load(boxes + 4 * (item / classes));
    const Pack<4> delta = Access<float, 4>::load(deltas + 4 * item);
    Access<float, 4>::store(results + 4 * item, decoded(box, delta, n, height, width));
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kDecodeThreads)
    foveate_decode_boxes(const float* __restrict__ boxes, const float* __restrict__ deltas,
                         float* __restrict__ results, int rows, int classes, double mean_x,
                         double mean_y, double mean_w, double mean_h, double std_x, double std_y,
                         double std_w, double std_h, int height, int width) {
    const foveate::Normalisation normalisation{{mean_x, mean_y, mean_w, mean_h},
                                               {std_x, std_y, std_w, std_h}};
    foveate::decode_item(static_cast<long long>(blockIdx.x) * foveate::kDecodeThreads + threadIdx.x,
                         boxes, deltas, results, rows, classes, normalisation, height, width);
}

#endif
