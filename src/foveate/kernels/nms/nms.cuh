// SPDX-License-Identifier: Apache-2.0
// Greedy non-maximum suppression by bit masks, class-agnostic or among boxes of one group; and the
// gathering of the boxes that it keeps.
//
// Kernels, in the order of their launch, for K boxes and W = ceil(K / 32) words:
//   foveate_nms_keys   block (256), grid (ceil(K / 256))
//   foveate_nms_order  block (256), grid (ceil(K / 256)), 1,024 bytes of static shared memory
//   foveate_nms_masks  block (64), grid (W, ceil(K / 64)); bit j of word w of row i: box i covers
//                      box 32 * w + j of the order, which comes after it
//   foveate_nms_scan   block (256), grid (1), dynamic shared memory 4 * W bytes, 132 bytes static;
//                      ceil(K / 32) dependent passes, fewer once the result is full
// Bound: the masks take K * K / 2 overlaps and K * K / 8 bytes, written once and read once.
//
//   foveate_gather_boxes  block (128), grid (ceil(R / 128)): a thread gathers one of R boxes and
//                         scales it to the frame of the features canvas. Bound by its launch; 36
//                         bytes per box.
#ifndef FOVEATE_NMS_CUH
#define FOVEATE_NMS_CUH

#include "device/stage.cuh"
#include "nms/greedy.cuh"

namespace foveate {

constexpr int kMaskThreads = 64;
constexpr int kScanThreads = 256;
constexpr int kGatherThreads = 128;

// Sorting keys: boxes without area, and those after the count, come last. A solid box's key is at
// least 1, since only NaN has the key 0.
FOVEATE_BOTH void key_item(int index, const float* boxes, const float* scores, const int* count,
                           unsigned* keys, int capacity) {
    if (index >= capacity) return;
    const bool exists = count == nullptr || index < count[0];
    const bool solid = exists && has_area(box_at(boxes, index));
    const unsigned key = solid ? score_key(scores[index]) : 0u;
    keys[index] = solid && key == 0u ? 1u : key;
}

// One word of one row of the masks.
FOVEATE_BOTH unsigned mask_word(const float* boxes, const int* groups, const int* order,
                                int capacity, int row, int word, double iou) {
    const int own = order[row];
    if (own < 0) return 0u;
    const Box box = box_at(boxes, own);
    unsigned mask = 0u;
    for (int bit = 0; bit < 32; ++bit) {
        const int column = 32 * word + bit;
        if (column <= row || column >= capacity) continue;
        const int other = order[column];
        if (other < 0) break;
        const bool meet = groups == nullptr || groups[own] == groups[other];
        if (meet && covers(box, box_at(boxes, other), iou)) mask |= 1u << bit;
    }
    return mask;
}

// Walk through the order, 32 boxes per pass: one thread decides among the 32, and all threads apply
// its decisions.
__device__ inline void scan_block(const int* order, const unsigned* masks, int* keep,
                                  int* keep_count, int capacity, int limit) {
    FOVEATE_DYNAMIC_SHARED(unsigned, removed);
    __shared__ int winners[32];
    __shared__ int found;
    const int words = ceil_div(capacity, 32);
    for (int w = threadIdx.x; w < words; w += kScanThreads) removed[w] = 0u;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    int total = 0;
    for (int word = 0; word < words && total < limit; ++word) {
        if (threadIdx.x == 0) {
            unsigned gone = removed[word];
            int fresh = 0;
            for (int bit = 0; bit < 32 && total + fresh < limit; ++bit) {
                const int row = 32 * word + bit;
                if (row >= capacity || order[row] < 0) break;
                if ((gone >> bit & 1u) != 0u) continue;
                gone |= masks[static_cast<long long>(row) * words + word];
                keep[total + fresh] = order[row];
                winners[fresh++] = row;
            }
            found = fresh;
        }
        __syncthreads();
        const int fresh = found;
        for (int w = word + 1 + threadIdx.x; w < words; w += kScanThreads) {
            unsigned gone = removed[w];
            for (int i = 0; i < fresh; ++i) {
                gone |= masks[static_cast<long long>(winners[i]) * words + w];
            }
            removed[w] = gone;
        }
        total += fresh;
        __syncthreads();
    }
    for (int i = total + threadIdx.x; i < limit; i += kScanThreads) keep[i] = -1;
    if (threadIdx.x == 0) keep_count[0] = total;
}

FOVEATE_BOTH void gather_item(int item, const float* boxes, const int* keep, float* gathered,
                              int capacity, int count, float horizontal, float vertical) {
    if (item >= count) return;
    const int index = keep[item];
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    if (index >= 0 && index < capacity) {
        box = Access<float, 4>::load(boxes + 4LL * index);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            box.lane[i] = mul(box.lane[i], i % 2 == 0 ? horizontal : vertical);
        }
    }
    Access<float, 4>::store(gathered + 4LL * item, box);
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_nms_keys(const float* __restrict__ boxes, const float* __restrict__ scores,
                     const int* __restrict__ count, unsigned* __restrict__ keys, int capacity) {
    foveate::key_item(blockIdx.x * foveate::kRankThreads + threadIdx.x, boxes, scores, count, keys,
                      capacity);
}

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_nms_order(const unsigned* __restrict__ keys, int* __restrict__ order, int capacity) {
    foveate::order_block(keys, order, capacity);
}

// Words before a row's own stay undefined: nothing reads them.
extern "C" __global__ void __launch_bounds__(foveate::kMaskThreads)
    foveate_nms_masks(const float* __restrict__ boxes, const int* __restrict__ groups,
                      const int* __restrict__ order, unsigned* __restrict__ masks, int capacity,
                      int words, double iou) {
    const int row = blockIdx.y * foveate::kMaskThreads + threadIdx.x, word = blockIdx.x;
    if (row >= capacity || word < row / 32) return;
    masks[static_cast<long long>(row) * words + word] =
        iou < 1.0 ? foveate::mask_word(boxes, groups, order, capacity, row, word, iou) : 0u;
}

extern "C" __global__ void __launch_bounds__(foveate::kScanThreads)
    foveate_nms_scan(const int* __restrict__ order, const unsigned* __restrict__ masks,
                     int* __restrict__ keep, int* __restrict__ keep_count, int capacity,
                     int limit) {
    foveate::scan_block(order, masks, keep, keep_count, capacity, limit);
}

extern "C" __global__ void __launch_bounds__(foveate::kGatherThreads)
    foveate_gather_boxes(const float* __restrict__ boxes, const int* __restrict__ keep,
                         float* __restrict__ gathered, int capacity, int count, float horizontal,
                         float vertical) {
    foveate::gather_item(blockIdx.x * foveate::kGatherThreads + threadIdx.x, boxes, keep, gathered,
                         capacity, count, horizontal, vertical);
}

#endif
