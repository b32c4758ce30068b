// SPDX-License-Identifier: Apache-2.0
// Map mode of bilinear upsampling: output = up(relu(input + second)), where `second`, of the shape
// of the input, and the ReLU are optional. The sum is not written to memory.
//
// Bound by memory traffic. Inputs are read once (a band reads up to two rows again), outputs are
// written once, in accesses of 16 bytes if planes are a multiple of 4 (float32) or 8 (float16)
// elements.
//
// Kernels foveate_upsample_map_* (f32x4, f32x1, f16x8, f16x1): block (128), grid (planes * bands),
// where bands = ceil(out_height / band_rows); dynamic shared memory
// 4 * (stage_rows * in_width + 2 * out_width + 2 * band_rows) bytes. `map_bands`
// chooses band_rows and stage_rows (0: the input is read directly).
#ifndef FOVEATE_MAP_CUH
#define FOVEATE_MAP_CUH

#include "device/blend.cuh"
#include "device/stage.cuh"

namespace foveate {

constexpr int kMapThreads = 128;
constexpr int kMapBlocks = 8;  // per multiprocessor; with more, ptxas spills registers on sm_90

// The value at `at` of a plane after the addition, if there is a second input, and the ReLU.
template <typename T>
FOVEATE_BOTH float input_at(const T* input, const T* second, int at, int relu) {
    float value = to_float(input[at]);
    if (second != nullptr) value = add(value, to_float(second[at]));
    return relu && value < 0.0f ? 0.0f : value;
}

// Copy the first `count` of these values to shared memory.
template <typename T>
__device__ void stage_inputs(const T* input, const T* second, int count, int relu, float* staged) {
    constexpr int lanes = Wide<T>::lanes;
    if (!is_wide(input, count) || (second != nullptr && !is_wide(second, count))) {
        for (int i = threadIdx.x; i < count; i += kMapThreads) {
            staged[i] = input_at(input, second, i, relu);
        }
        return;
    }
    for (int i = threadIdx.x * lanes; i < count; i += kMapThreads * lanes) {
        Pack<lanes> sum = Access<T, lanes>::load(input + i);
        if (second != nullptr) {
            const Pack<lanes> pack = Access<T, lanes>::load(second + i);
#pragma unroll
            for (int j = 0; j < lanes; ++j) sum.lane[j] = add(sum.lane[j], pack.lane[j]);
        }
#pragma unroll
        for (int j = 0; j < lanes; ++j) {
            if (relu && sum.lane[j] < 0.0f) sum.lane[j] = 0.0f;
        }
        keep<lanes>(sum, staged + i);
    }
}

FOVEATE_BOTH Blend map_blend(int index, int old, int length, int align_corners) {
    return align_corners ? corner_blend(index, old, length) : half_pixel_blend(index, old, length);
}

// Write a band of rows of one plane.
template <typename T, int N>
__device__ void upsample_block(const T* input, const T* second, T* output, int height, int width,
                               int out_height, int out_width, int align_corners, int relu,
                               int band_rows, int stage_rows) {
    FOVEATE_DYNAMIC_SHARED(float, staged);
    float* const shares = staged + stage_rows * width;
    int* const firsts = reinterpret_cast<int*>(shares + out_width + band_rows);
    const int bands = ceil_div(out_height, band_rows), plane = blockIdx.x / bands;
    const int top = (blockIdx.x - plane * bands) * band_rows;
    const int rows = smaller(band_rows, out_height - top);
    const long long start = static_cast<long long>(plane) * height * width;
    const T* from = input + start;
    const T* other = second == nullptr ? nullptr : second + start;
    const int base = map_blend(top, height, out_height, align_corners).first;
    const int end = map_blend(top + rows - 1, height, out_height, align_corners).second + 1;
    const bool is_staged = end - base <= stage_rows;
    for (int i = threadIdx.x; i < out_width + rows; i += kMapThreads) {
        const bool is_row = i >= out_width;
        const Blend blend = is_row
                                ? map_blend(top + i - out_width, height, out_height, align_corners)
                                : map_blend(i, width, out_width, align_corners);
        firsts[i] = blend.first;
        shares[i] = blend.share;
    }
    if (is_staged) {
        const T* other_base = other == nullptr ? nullptr : other + base * width;
        stage_inputs(from + base * width, other_base, (end - base) * width, relu, staged);
    }
    __syncthreads();
    T* to = output + (static_cast<long long>(plane) * out_height + top) * out_width;
    for (int i = threadIdx.x * N; i < rows * out_width; i += kMapThreads * N) {
        int row = i / out_width, column = i - row * out_width;
        Pack<N> pack;
#pragma unroll
        for (int lane = 0; lane < N; ++lane) {
            const float down = shares[out_width + row], across = shares[column];
            // A second sample with a share of 0 may lie outside of the map, so it is not read.
            const int y0 = firsts[out_width + row], y1 = y0 + (down > 0.0f);
            const int x0 = firsts[column], x1 = x0 + (across > 0.0f);
            float corner[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int y = j < 2 ? y0 : y1, x = j % 2 == 0 ? x0 : x1;
                corner[j] = is_staged ? staged[(y - base) * width + x]
                                      : input_at(from, other, y * width + x, relu);
            }
            pack.lane[lane] =
                mix(mix(corner[0], corner[1], across), mix(corner[2], corner[3], across), down);
            if (++column == out_width) {
                column = 0;
                row = smaller(row + 1, rows - 1);
            }
        }
        Access<T, N>::store(to + i, pack);
    }
}

}  // namespace foveate

#define FOVEATE_MAP_KERNEL(suffix, T, N)                                                           \
    extern "C" __global__ void __launch_bounds__(foveate::kMapThreads, foveate::kMapBlocks)        \
        foveate_upsample_map_##suffix(const T* __restrict__ input, const T* __restrict__ second,   \
                                      T* __restrict__ output, int planes, int height, int width,   \
                                      int out_height, int out_width, int align_corners, int relu,  \
                                      int band_rows, int stage_rows) {                             \
        if (static_cast<int>(blockIdx.x) / foveate::ceil_div(out_height, band_rows) >= planes) {   \
            return;                                                                                \
        }                                                                                          \
        foveate::upsample_block<T, N>(input, second, output, height, width, out_height, out_width, \
                                      align_corners, relu, band_rows, stage_rows);                 \
    }

FOVEATE_MAP_KERNEL(f32x4, float, 4)
FOVEATE_MAP_KERNEL(f32x1, float, 1)
FOVEATE_MAP_KERNEL(f16x8, foveate::Half, 8)
FOVEATE_MAP_KERNEL(f16x1, foveate::Half, 1)

#undef FOVEATE_MAP_KERNEL

#endif
