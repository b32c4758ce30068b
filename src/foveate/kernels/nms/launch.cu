// SPDX-License-Identifier: Apache-2.0
// Launcher of non-maximum suppression.
#include "nms/nms.cuh"

#include "device/launch.cuh"

namespace foveate {

constexpr int kMostBoxes = 65536;

}  // namespace foveate

// Bytes of the scratch array of foveate_launch_nms: keys, order, masks.
extern "C" long long foveate_nms_scratch_bytes(int capacity) {
    if (capacity <= 0) return 0;
    const long long boxes = capacity;
    return 4 * (2 * boxes + boxes * ((boxes + 31) / 32));
}

// List the boxes that no better box covers, best first; equal scores keep the order of the boxes.
//   boxes (capacity, 4) float32 xyxy, one without area is never kept; scores (capacity,) float32,
//   NaN after all others; groups (capacity,) int32, boxes of different groups do not meet, or null;
//   count (1,) int32, how many boxes exist, or null for all; kept (limit,) int32 indices, -1 after
//   the end; kept_count (1,) int32; scratch: see above. A box is dropped if its intersection over
//   union with a better one is larger than `iou`, from 0; 1 and more keep all.
extern "C" int foveate_launch_nms(const float* boxes, const float* scores, const int* groups,
                                  const int* count, int* kept, int* kept_count, unsigned* scratch,
                                  int capacity, int limit, double iou, cudaStream_t stream) {
    using namespace foveate;
    if (capacity < 0 || limit < 0) return kBadShape;
    if (!(iou >= 0.0)) return kBadOption;
    if (kept_count == nullptr || (limit > 0 && kept == nullptr)) return kNullPointer;
    if (capacity > 0 && (boxes == nullptr || scores == nullptr || scratch == nullptr)) {
        return kNullPointer;
    }
    if (!is_aligned(boxes, 4) || !is_aligned(scores, 4) || !is_aligned(groups, 4) ||
        !is_aligned(count, 4) || !is_aligned(kept, 4) || !is_aligned(kept_count, 4) ||
        !is_aligned(scratch, 4)) {
        return kMisaligned;
    }
    if (capacity > kMostBoxes) return kTooLarge;
    const int words = ceil_div(capacity, 32);
    unsigned* keys = scratch;
    unsigned* masks = keys == nullptr ? nullptr : keys + 2 * capacity;
    int* order = keys == nullptr ? nullptr : reinterpret_cast<int*>(keys + capacity);
    int status = kOk;
    if (capacity > 0) {
        const dim3 ranks(static_cast<unsigned>(ceil_div(capacity, kRankThreads)));
        const dim3 pairs(static_cast<unsigned>(words),
                         static_cast<unsigned>(ceil_div(capacity, kMaskThreads)));
        status = FOVEATE_LAUNCH(foveate_nms_keys, ranks, dim3(kRankThreads), 0, stream, boxes,
                                scores, count, keys, capacity);
        if (status != kOk) return status;
        status = FOVEATE_LAUNCH(foveate_nms_order, ranks, dim3(kRankThreads), 0, stream, keys,
                                order, capacity);
        if (status != kOk) return status;
        status = FOVEATE_LAUNCH(foveate_nms_masks, pairs, dim3(kMaskThreads), 0, stream, boxes,
                                groups, order, masks, capacity, words, iou);
        if (status != kOk) return status;
    }
    return FOVEATE_LAUNCH(foveate_nms_scan, dim3(1), dim3(kScanThreads),
                          static_cast<unsigned>(4 * words), stream, order, masks, kept, kept_count,
                          capacity, limit);
}
