// SPDX-License-Identifier: Apache-2.0
// The parts of greedy suppression by one block: the order of scores, and the choice of boxes.
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

struct alignas(16) Box {
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

// Number of elements that come before element `index`; `key_of` returns the key of an element, and
// `tile` has room for kRankThreads keys. All threads of a block call this, including those with
// index >= count.
template <typename KeyOf>
__device__ int rank_of(const KeyOf& key_of, int count, int index, unsigned* tile) {
    const unsigned own = index < count ? key_of(index) : 0u;
    int rank = 0;
    for (int start = 0; start < count; start += kRankThreads) {
        const int at = start + threadIdx.x;
        tile[threadIdx.x] = at < count ? key_of(at) : 0u;
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

// order[rank] = index for the elements [first, last) among `count`, by one block.
template <typename KeyOf>
__device__ void find_order(const KeyOf& key_of, int count, int first, int last, int* order) {
    __shared__ unsigned tile[kRankThreads];
    for (int start = first; start < last; start += kRankThreads) {
        const int index = start + threadIdx.x;
        const int rank = rank_of(key_of, count, index, tile);
        if (index < last) order[rank] = index;
    }
    __syncthreads();
}

// Write the first boxes of an order that have an area and that none before them covers: their
// indices to `winners`, and the boxes to `boxes`. `box_of` returns the box of an index. Every
// thread of the block returns their number, at most `limit`. With an `iou` of 1 or more, no box
// covers another. The warps take turns: one decides among its 32 boxes, then the later ones compare
// theirs with the new winners.
template <typename BoxOf>
__device__ int choose_boxes(const BoxOf& box_of, const int* order, int count, int limit, double iou,
                            int* winners, Box* boxes) {
    __shared__ int found;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const bool compares = iou < 1.0;
    int total = 0;
    for (int start = 0; start < count && total < limit; start += kRankThreads) {
        const int at = start + threadIdx.x;
        const int own = at < count ? order[at] : -1;
        const Box box = own >= 0 ? box_of(own) : Box{0.0f, 0.0f, 0.0f, 0.0f};
        bool alive = has_area(box);
        for (int i = 0; compares && i < total && alive; ++i) alive = !covers(boxes[i], box, iou);
        for (int turn = 0; turn < kRankThreads / 32; ++turn) {
            int fresh = total;
            if (warp == turn) {
                unsigned living = __ballot_sync(0xffffffffu, alive);
                while (living != 0u && fresh < limit) {
                    if (lane == __ffs(static_cast<int>(living)) - 1) {
                        winners[fresh] = own;
                        boxes[fresh] = box;
                        alive = false;
                    }
                    __syncwarp();
                    if (alive && compares) alive = !covers(boxes[fresh], box, iou);
                    ++fresh;
                    living = __ballot_sync(0xffffffffu, alive);
                }
                if (lane == 0) found = fresh;
            }
            __syncthreads();
            fresh = found;
            if (warp > turn && compares) {
                for (int i = total; i < fresh && alive; ++i) alive = !covers(boxes[i], box, iou);
            }
            total = fresh;
            __syncthreads();
        }
    }
    return total;
}

}  // namespace foveate
