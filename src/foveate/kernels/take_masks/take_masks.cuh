// SPDX-License-Identifier: Apache-2.0
// Copies the masks that detections use, each once, and leaves all others as they are.
//
// Bound by the bus: the target is memory of the CPU that the GPU writes directly. A warp stores 512
// contiguous bytes together. Which masks are in use is only on the device, so every window has
// blocks, most of which end at once: no block writes bytes of another one.
//
// Kernels foveate_take_masks_* (x16, x2: bytes per access): block (256), grid (ceil(C / 1024), K)
// for K masks of C accesses. No shared memory, no barrier. Elements are copied as bits.
#ifndef FOVEATE_TAKE_MASKS_CUH
#define FOVEATE_TAKE_MASKS_CUH

#include "device/numbers.cuh"

namespace foveate {

constexpr int kTakeThreads = 256;
constexpr int kTakeChunks = 4;  // per thread

// Whether a window is one of the first `count` rows. All lanes of a warp call this.
__device__ inline bool is_listed(const int* rows, int count, int window) {
    bool hit = false;
    for (int i = threadIdx.x & 31; i < count; i += 32) hit |= rows[i] == window;
    return __ballot_sync(0xffffffffu, hit) != 0u;
}

// A part of the mask of a window. There are at most `listed` rows.
template <typename T>
__device__ void take_block(const T* logits, const int* rows, const int* found, T* taken, int listed,
                           int chunks) {
    const int window = blockIdx.y, count = smaller(found[0], listed);
    if (rows == nullptr ? window >= count : !is_listed(rows, count, window)) return;
    const long long mask = static_cast<long long>(window) * chunks;
#pragma unroll
    for (int i = 0; i < kTakeChunks; ++i) {
        const int at = (blockIdx.x * kTakeChunks + i) * kTakeThreads + threadIdx.x;
        if (at < chunks) taken[mask + at] = logits[mask + at];
    }
}

}  // namespace foveate

#define FOVEATE_TAKE_KERNEL(suffix, T)                                                         \
    extern "C" __global__ void __launch_bounds__(foveate::kTakeThreads)                        \
        foveate_take_masks_##suffix(const T* __restrict__ logits, const int* __restrict__ rows, \
                                    const int* __restrict__ found, T* __restrict__ taken,      \
                                    int listed, int chunks) {                                  \
        foveate::take_block<T>(logits, rows, found, taken, listed, chunks);                    \
    }

FOVEATE_TAKE_KERNEL(x16, uint4)
FOVEATE_TAKE_KERNEL(x2, unsigned short)

#undef FOVEATE_TAKE_KERNEL

#endif
