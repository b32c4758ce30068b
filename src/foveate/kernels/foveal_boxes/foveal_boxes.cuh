// SPDX-License-Identifier: Apache-2.0
// The regions around each box (Zagoruyko et al., "MultiPathNet", section 3.1): the same centre, the
// sides times each scale, unclipped.
//
// Kernel foveate_foveal_boxes: block (128), grid (ceil(boxes * scales / 128)). A thread makes one
// region. No shared memory, no barrier. Bound: bytes, 32 a region. The arithmetic is float64,
// rounded at the end.
#ifndef FOVEATE_FOVEAL_BOXES_CUH
#define FOVEATE_FOVEAL_BOXES_CUH

#include "foveal_boxes/foveal_region.cuh"

namespace foveate {

constexpr int kFovealThreads = 128;

FOVEATE_BOTH void foveal_item(long long item, const float* boxes, const double* scales,
                              float* regions, int count, int scale_count) {
    if (item >= static_cast<long long>(count) * scale_count) return;
    const Pack<4> box = Access<float, 4>::load(boxes + 4 * (item / scale_count));
    Access<float, 4>::store(regions + 4 * item, foveal_box(box, scales[item % scale_count]));
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kFovealThreads)
    foveate_foveal_boxes(const float* __restrict__ boxes, const double* __restrict__ scales,
                         float* __restrict__ regions, int count, int scale_count) {
    foveate::foveal_item(static_cast<long long>(blockIdx.x) * foveate::kFovealThreads + threadIdx.x,
                         boxes, scales, regions, count, scale_count);
}

#endif
