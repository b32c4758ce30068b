// SPDX-License-Identifier: Apache-2.0
// Dynamic shared memory, and staging neighboring values there by accesses of 16 bytes where their
// alignment allows it.
#pragma once

#include "device/pack.cuh"

// An array of one type in dynamic shared memory. (The host build defines its own macro.)
#ifndef FOVEATE_DYNAMIC_SHARED
#define FOVEATE_DYNAMIC_SHARED(type, name)                      \
    extern __shared__ __align__(16) unsigned char all_shared[]; \
    type* name = reinterpret_cast<type*>(all_shared)
#endif

namespace foveate {

// Whether `count` elements from an address on can be moved 16 bytes at a time.
template <typename T>
FOVEATE_BOTH bool is_wide(const T* from, int count) {
    return reinterpret_cast<unsigned long long>(from) % 16 == 0 && count % Wide<T>::lanes == 0;
}

// Write a pack to shared memory, at a multiple of 16 bytes.
template <int N>
FOVEATE_BOTH void keep(const Pack<N>& pack, float* to) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        const float* four = pack.lane + i;
        Access<float, 4>::store(to + i, {{four[0], four[1], four[2], four[3]}});
    }
}

// Copy `count` values as float32; `to` is aligned to 16 bytes. All threads of a block call this.
template <typename T>
__device__ void stage_values(const T* from, float* to, int count, int threads) {
    constexpr int lanes = Wide<T>::lanes;
    if (is_wide(from, count)) {
        for (int i = threadIdx.x * lanes; i < count; i += threads * lanes) {
            keep<lanes>(Access<T, lanes>::load(from + i), to + i);
        }
    } else {
        for (int i = threadIdx.x; i < count; i += threads) to[i] = to_float(from[i]);
    }
}

}  // namespace foveate
