// SPDX-License-Identifier: Apache-2.0
// A stable descending order by counting: the rank of an element is the number of those before it.
//
// Every element is compared with every other one, N * N comparisons in one dependent pass, which is
// less time than the passes of a sort for the few thousand elements of an image.
#pragma once

#include "device/numbers.cuh"

namespace foveate {

constexpr int kRankThreads = 256;

// Number of `keys` that come before element `index`, by a block; `tile` holds kRankThreads keys.
// Every thread of the block calls this, those with index >= count too.
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

// order[rank] = index; those whose key is 0 are no candidates and get -1.
__device__ inline void order_block(const unsigned* keys, int* order, int capacity) {
    __shared__ unsigned tile[kRankThreads];
    const int index = blockIdx.x * kRankThreads + threadIdx.x;
    const int rank = rank_of(keys, capacity, index, tile);
    if (index < capacity) order[rank] = keys[index] == 0u ? -1 : index;
}

}  // namespace foveate
