// SPDX-License-Identifier: Apache-2.0
// Launcher of the foveal regions.
#include "foveal_boxes/foveal_boxes.cuh"

#include "device/launch.cuh"

// Make the regions around each box.
//   boxes (count, 4) float32 xyxy and regions (count, scale_count, 4) float32, each at a multiple
//   of 16 bytes; scales (scale_count,) float64.
extern "C" int foveate_launch_foveal_boxes(const float* boxes, const double* scales, float* regions,
                                           int count, int scale_count, cudaStream_t stream) {
    using namespace foveate;
    if (count < 0 || scale_count < 0) return kBadShape;
    if (count == 0 || scale_count == 0) return kOk;
    if (boxes == nullptr || scales == nullptr || regions == nullptr) return kNullPointer;
    if (!is_aligned(boxes, 16) || !is_aligned(scales, 8) || !is_aligned(regions, 16)) {
        return kMisaligned;
    }
    const long long items = static_cast<long long>(count) * scale_count;
    const long long blocks = (items + kFovealThreads - 1) / kFovealThreads;
    if (blocks > kMaxGridX) return kTooLarge;
    return FOVEATE_LAUNCH(foveate_foveal_boxes, dim3(static_cast<unsigned>(blocks)),
                          dim3(kFovealThreads), 0, stream, boxes, scales, regions, count,
                          scale_count);
}
