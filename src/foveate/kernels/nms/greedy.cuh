// SPDX-License-Identifier: Apache-2.0
// The parts of greedy suppression: the order of scores, and the overlap of two boxes.
//
// NOTE: Overlaps are computed in float64, as in the reference. Windows of a grid overlap by simple
// fractions, so that thresholds are met exactly, and float32 would decide some of those cases
// differently. Boxes that do not touch are detected in float32, where comparisons are exact.
//
// The order is stable, descending, and found by counting: the rank of an element is the number of
// those before it. N * N comparisons in one dependent pass take less time than the passes of a sort
// for the few thousand elements of an image.
#pragma once

#include "device/numbers.cuh"

namespace foveate {

constexpr int kRankThreads = 256;

struct Box {
    float x0, y0, x1, y1;
};

FOVEATE_BOTH Box box_at(const float* boxes, long long index) {
    const float* box = boxes + 4 * index;
    return {box[0], box[1], box[2], box[3]};
}

FOVEATE_BOTH bool has_area(const Box& box) { return box.x1 > box.x0 && box.y1 > box.y0; }

// Whether two boxes with areas share more than `iou` of their union; 0 <= iou < 1.
FOVEATE_BOTH bool covers(const Box& a, const Box& b, double iou) {
    const float left = a.x0 > b.x0 ? a.x0 : b.x0, right = a.x1 < b.x1 ? a.x1 : b.x1;
    const float top = a.y0 > b.y0 ? a.y0 : b.y0, bottom = a.y1 < b.y1 ? a.y1 : b.y1;
    if (right <= left || bottom <= top) return false;
    const double shared = mul(add(static_cast<double>(right), -static_cast<double>(left)),
                              add(static_cast<double>(bottom), -static_cast<double>(top)));
    const double first = mul(add(static_cast<double>(a.x1), -static_cast<double>(a.x0)),
                             add(static_cast<double>(a.y1), -static_cast<double>(a.y0)));
    const double second = mul(add(static_cast<double>(b.x1), -static_cast<double>(b.x0)),
                              add(static_cast<double>(b.y1), -static_cast<double>(b.y0)));
    return shared > mul(iou, add(add(first, second), -shared));
}

// A number that grows with the score; equal scores (0 and -0 too) give equal numbers, NaN the
// least.
FOVEATE_BOTH unsigned score_key(float score) {
    if (score != score) return 0u;
    const unsigned bits = bits_of(add(score, 0.0f));
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// Number of `keys` that come before element `index`; `tile` has room for kRankThreads keys. All
// threads of a block call this, including those with index >= count.
__device__ inline int rank_of(const unsigned* keys, int count, int index, unsigned* tile) {
    const unsigned own = index < count ? keys[index] : 0u;
    int rank = 0;
    for (int start = 0; start < count; start += kRankThreads) {
        const int at = start + threadIdx.x;
        tile[threadIdx.x] = at < count ? keys[at] : 0u;
        __syncthreads();
        const int filled = smaller(kRankThreads, count - start);
        for (int i = 0; i < filled; ++i) {
            const unsigned other = tile[i];
            rank += other > own || (other == own && start + i < index);
        }
        __syncthreads();
    }
    return rank;
}

// order[rank] = index; elements whose key is 0 are not candidates and get -1.
__device__ inline void order_block(const unsigned* keys, int* order, int capacity) {
    __shared__ unsigned tile[kRankThreads];
    const int index = blockIdx.x * kRankThreads + threadIdx.x;
    const int rank = rank_of(keys, capacity, index, tile);
    if (index < capacity) order[rank] = keys[index] == 0u ? -1 : index;
}

}  // namespace foveate
