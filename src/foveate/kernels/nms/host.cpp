// SPDX-License-Identifier: Apache-2.0
// Greedy suppression on the CPU. Overlaps are those of the device code.
#include <vector>

#include "device/on_host.h"

#include "nms/overlap.cuh"

namespace foveate {

// Mark the boxes after `own` that it covers. Every one is looked at, without a branch, so that this
// is compiled to vector instructions.
inline void drop_covered(const float* boxes, const int* groups, long long own, long long count,
                         double iou, int* dropped) {
    const Box box = box_at(boxes, own);
    const int group = groups == nullptr ? 0 : groups[own];
    for (long long i = own + 1; i < count; ++i) {
        const int meet = groups == nullptr ? 1 : groups[i] == group;
        dropped[i] |= covers(box, box_at(boxes, i), iou) ? meet : 0;
    }
}

}  // namespace foveate

// Write the indices of the at most `limit` boxes that survive to `winners`; return their number.
//   boxes (count, 4) xyxy with areas, best first; groups (count,), or null: all boxes meet.
extern "C" __attribute__((visibility("default"))) long long foveate_host_suppress(const float* boxes, const int* groups, long long count,
                                           double iou, long long limit, long long* winners) {
    std::vector<int> dropped(static_cast<size_t>(count), 0);
    long long found = 0;
    for (long long i = 0; i < count && found < limit; ++i) {
        if (dropped[i] != 0) continue;
        winners[found++] = i;
        foveate::drop_covered(boxes, groups, i, count, iou, dropped.data());
    }
    return found;
}
