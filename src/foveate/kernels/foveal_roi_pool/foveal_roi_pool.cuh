// SPDX-License-Identifier: Apache-2.0
// Everything that the towers read, from three maps and the boxes, in one launch: foveal regions,
// ROI max pooling, and the normalisation of each pooled region as a whole (Zagoruyko et al.,
// "MultiPathNet", sections 3.1 and 3.2).
//
// Bound: bytes, those of the bins; results are written once. A block pools one region from one map
// and keeps the result in registers until its sum of squares is known.
//
// Kernels foveate_foveal_roi_pool_f32, _f16: block (512), grid (boxes * pairs), 64 bytes of static
// shared memory. Channels are multiples of 4 (float32) or 8 (float16), and
// rows * columns * channels is at most 512 * 13 * 4 (float32) or 512 * 7 * 8 (float16).
#ifndef FOVEATE_FOVEAL_ROI_POOL_CUH
#define FOVEATE_FOVEAL_ROI_POOL_CUH

#include "foveal_boxes/foveal_region.cuh"
#include "roi_max_pool/bins.cuh"

namespace foveate {

constexpr int kFovealPoolThreads = 512;
constexpr int kMapNumbers = 3;  // of a map's row in `shapes`

// Packs that a thread keeps, enough for 7 x 7 bins of 512 channels.
template <typename T>
constexpr int kKept = sizeof(T) == 4 ? 13 : 7;

// Sum over the block; every thread calls it and gets the sum, always added in the same order.
__device__ inline float block_sum(float value) {
    __shared__ float sums[kFovealPoolThreads / 32];
    for (int distance = 16; distance > 0; distance /= 2) {
        value = add(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < kFovealPoolThreads / 32; ++warp) total = add(total, sums[warp]);
    return total;
}

// What a pooled region is multiplied by. Normalisation 1: `gain` over the L2 norm; 2: `gain` over
// the root mean square. A region of zeros stays zero.
FOVEATE_BOTH float region_factor(float squares, int elements, int normalisation, float gain) {
    if (normalisation == 0) return gain;
    if (normalisation == 1) {
        const float norm = sqrtf(squares);
        return divide(gain, norm > 1e-12f ? norm : 1e-12f);
    }
    return divide(gain, sqrtf(add(divide(squares, static_cast<float>(elements)), 1e-6f)));
}

// One pair (region, map) of one box.
template <typename T>
__device__ void foveal_pool_block(const T* const* maps, const int* shapes, const float* map_scales,
                                  const float* boxes, const double* scales, const int* pairs,
                                  T* const* results, int pair_count, int rows, int columns,
                                  int rounding, int normalisation, float gain) {
    constexpr int lanes = Wide<T>::lanes;
    const int box_index = blockIdx.x / pair_count, pair = blockIdx.x - box_index * pair_count;
    const int map = pairs[2 * pair + 1];
    const int height = shapes[kMapNumbers * map], width = shapes[kMapNumbers * map + 1];
    const int channels = shapes[kMapNumbers * map + 2];
    const float* box = boxes + 4LL * box_index;
    const Pack<4> region = foveal_box({{box[0], box[1], box[2], box[3]}}, scales[pairs[2 * pair]]);
    const float roi[5] = {0.0f, region.lane[0], region.lane[1], region.lane[2], region.lane[3]};
    const int groups = channels / lanes, items = rows * columns * groups;
    Pack<lanes> kept[kKept<T>];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kKept<T>; ++i) {
        const int item = i * kFovealPoolThreads + threadIdx.x;
        if (item >= items) continue;
        const int cell = item / groups;
        const Bin bin =
            bin_of(roi, cell, 1, height, width, rows, columns, map_scales[map], rounding);
        kept[i] = direct_maximum<T, lanes>(maps[map] + (item - cell * groups) * lanes, bin, width,
                                           channels);
#pragma unroll
        for (int j = 0; j < lanes; ++j) {
            squares = add(squares, mul(kept[i].lane[j], kept[i].lane[j]));
        }
    }
    const float factor = region_factor(block_sum(squares), items * lanes, normalisation, gain);
    T* result = results[pair] + static_cast<long long>(box_index) * items * lanes;
#pragma unroll
    for (int i = 0; i < kKept<T>; ++i) {
        const int item = i * kFovealPoolThreads + threadIdx.x;
        if (item >= items) continue;
#pragma unroll
        for (int j = 0; j < lanes; ++j) kept[i].lane[j] = mul(kept[i].lane[j], factor);
        Access<T, lanes>::store(result + static_cast<long long>(item) * lanes, kept[i]);
    }
}

}  // namespace foveate

#define FOVEATE_FOVEAL_POOL_KERNEL(suffix, T)                                                     \
    extern "C" __global__ void __launch_bounds__(foveate::kFovealPoolThreads)                     \
        foveate_foveal_roi_pool_##suffix(                                                         \
            const T* const* __restrict__ maps, const int* __restrict__ shapes,                    \
            const float* __restrict__ map_scales, const float* __restrict__ boxes,                \
            const double* __restrict__ scales, const int* __restrict__ pairs,                     \
            T* const* __restrict__ results, int box_count, int pair_count, int rows, int columns, \
            int rounding, int normalisation, float gain) {                                        \
        if (static_cast<int>(blockIdx.x) / pair_count >= box_count) return;                       \
        foveate::foveal_pool_block<T>(maps, shapes, map_scales, boxes, scales, pairs, results,    \
                                      pair_count, rows, columns, rounding, normalisation, gain);  \
    }

FOVEATE_FOVEAL_POOL_KERNEL(f32, float)
FOVEATE_FOVEAL_POOL_KERNEL(f16, foveate::Half)

#undef FOVEATE_FOVEAL_POOL_KERNEL

#endif
