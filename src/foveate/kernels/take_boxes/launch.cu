// SPDX-License-Identifier: Apache-2.0
// Launcher of the gathering of boxes.
#include "take_boxes/take_boxes.cuh"

#include "device/launch.cuh"

// Gather boxes and scale them.
//   boxes (capacity, 4) float32 xyxy and taken (count, 4) float32, each at a multiple of 16 bytes;
//   kept (count,) int32 indices; one that is no index gives zeros.
extern "C" int foveate_launch_take_boxes(const float* boxes, const int* kept, float* taken,
                                         int capacity, int count, float horizontal, float vertical,
                                         cudaStream_t stream) {
    using namespace foveate;
    if (capacity < 0 || count < 0) return kBadShape;
    if (count == 0) return kOk;
    if (kept == nullptr || taken == nullptr || (capacity > 0 && boxes == nullptr)) {
        return kNullPointer;
    }
    if (!is_aligned(boxes, 16) || !is_aligned(kept, 4) || !is_aligned(taken, 16)) {
        return kMisaligned;
    }
    if (count > kMaxGridX - kTakeThreads) return kTooLarge;
    return FOVEATE_LAUNCH(
        foveate_take_boxes, dim3(static_cast<unsigned>(ceil_div(count, kTakeThreads))),
        dim3(kTakeThreads), 0, stream, boxes, kept, taken, capacity, count, horizontal, vertical);
}
