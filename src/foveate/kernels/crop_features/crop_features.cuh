// SPDX-License-Identifier: Apache-2.0
// Cuts the patch of each selected window out of the map of its level.
//
// Bound by memory traffic. Each patch is read and written once, with stores of 16 bytes if a patch
// is a multiple of 4 (float32) or 8 (float16) elements. If a patch is one pixel of a planar map,
// each element lies in its own sector; only another layout of the map could change that.
//
// Kernels foveate_crop_features_* (f32x4, f32x1, f16x8, f16x1): block (256), grid
// (ceil(channels * size * size / lanes / 256), windows). No shared memory, no barrier. Elements are
// copied as bits.
#ifndef FOVEATE_CROP_FEATURES_CUH
#define FOVEATE_CROP_FEATURES_CUH

#include "device/numbers.cuh"

namespace foveate {

constexpr int kCropThreads = 256;

// Bits of the element at channel c, row y and column x of a map (channels, H, W); 0 outside of it.
template <typename T>
FOVEATE_BOTH unsigned cropped(const T* map, int c, long long y, long long x, int height,
                              int width) {
    if (y < 0 || x < 0 || y >= height || x >= width) return 0u;
    return map[(static_cast<long long>(c) * height + y) * width + x];
}

// Copies N elements of patch `k`. T is unsigned or unsigned short.
template <typename T, int N>
FOVEATE_BOTH void crop_item(int block, int k, int thread, const T* const* maps, const int* shapes,
                            const int* indices, T* patches, int levels, int channels, int size,
                            int step) {
    const int patch = channels * size * size;
    const int first = (block * kCropThreads + thread) * N;
    if (first >= patch) return;
    const int level = indices[3LL * k];
    const bool exists = level >= 0 && level < levels;
    const T* map = exists ? maps[level] : nullptr;
    const int height = exists ? shapes[2 * level] : 0, width = exists ? shapes[2 * level + 1] : 0;
    const long long top = static_cast<long long>(indices[3LL * k + 1]) * step;
    const long long left = static_cast<long long>(indices[3LL * k + 2]) * step;
    T* to = patches + static_cast<long long>(k) * patch + first;
    unsigned words[4] = {0u, 0u, 0u, 0u};
    constexpr int per_word = 4 / sizeof(T);
#pragma unroll
    for (int lane = 0; lane < N; ++lane) {
        const int row = (first + lane) / size, x = first + lane - row * size;
        const int c = row / size, y = row - c * size;
        const unsigned bits = cropped(map, c, top + y, left + x, height, width);
        words[lane / per_word] |= bits << (lane % per_word * 16);
    }
    if (N == 1) {
        to[0] = static_cast<T>(words[0]);
    } else {
        *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

}  // namespace foveate

#define FOVEATE_CROP_KERNEL(suffix, T, N)                                                        \
    extern "C" __global__ void __launch_bounds__(foveate::kCropThreads)                          \
        foveate_crop_features_##suffix(const T* const* __restrict__ maps,                        \
                                       const int* __restrict__ shapes,                           \
                                       const int* __restrict__ indices, T* __restrict__ patches, \
                                       int levels, int channels, int size, int step) {           \
        foveate::crop_item<T, N>(blockIdx.x, blockIdx.y, threadIdx.x, maps, shapes, indices,     \
                                 patches, levels, channels, size, step);                         \
    }

FOVEATE_CROP_KERNEL(f32x4, unsigned, 4)
FOVEATE_CROP_KERNEL(f32x1, unsigned, 1)
FOVEATE_CROP_KERNEL(f16x8, unsigned short, 8)
FOVEATE_CROP_KERNEL(f16x1, unsigned short, 1)

#undef FOVEATE_CROP_KERNEL

#endif
