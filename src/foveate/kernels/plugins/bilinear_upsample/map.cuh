// SPDX-License-Identifier: Apache-2.0
// Map mode of bilinear upsampling: output = up(input), or up(relu(input + second)) without writing
// the sum. `second` is a map of the input's shape, or is read in place from the maps of a pyramid.
//
// Bound: bytes. Inputs are read once (a band of rows reads up to two rows again), outputs written
// once, in accesses of 16 bytes where planes are a multiple of 4 (float32) or 8 (float16) elements.
//
// Kernels foveate_upsample_map_* (f32x4, f32x1, f16x8, f16x1): block (128), grid (planes * bands),
// where bands = ceil(out_height / band_rows); dynamic shared memory
// 4 * (stage_rows * in_width + 2 * out_width + 2 * band_rows) bytes. `upsample_plan` chooses
// band_rows and stage_rows (0: the input is read directly).
#ifndef FOVEATE_MAP_CUH
#define FOVEATE_MAP_CUH

#include "device/blend.cuh"
#include "device/stage.cuh"

namespace foveate {

constexpr int kMapThreads = 128;
constexpr int kMapBlocks = 8;  // a multiprocessor; aiming at more, ptxas spills on sm_90

// The second input of one plane: its address, the distance of its rows, and how much of it exists.
template <typename T>
struct Second {
    const T* values;  // null: there is none
    int stride, height, width;
};

// Where plane (n, c) finds its second input. With `maps`, it is the window of the pick (level, row,
// column) of map n, which starts at step * (row, column); outside of the map there are zeros.
template <typename T>
FOVEATE_BOTH Second<T> second_of(const T* second, const T* const* maps, const int* shapes,
                                 const int* picks, int levels, int step, int n, int c, int channels,
                                 int height, int width) {
    if (maps == nullptr) {
        const long long plane = static_cast<long long>(n) * channels + c;
        return {second == nullptr ? nullptr : second + plane * height * width, width, height,
                width};
    }
    const int level = picks[3LL * n];
    if (level < 0 || level >= levels) return {nullptr, 0, 0, 0};
    const int rows = shapes[2 * level], columns = shapes[2 * level + 1];
    const long long top = static_cast<long long>(picks[3LL * n + 1]) * step;
    const long long left = static_cast<long long>(picks[3LL * n + 2]) * step;
    if (top < 0 || left < 0 || top >= rows || left >= columns) return {nullptr, 0, 0, 0};
    const T* plane = maps[level] + static_cast<long long>(c) * rows * columns;
    return {plane + top * columns + left, columns, static_cast<int>(rows - top),
            static_cast<int>(columns - left)};
}

template <typename T>
FOVEATE_BOTH float input_at(const T* input, const Second<T>& second, int y, int x, int width,
                            int relu) {
    float value = to_float(input[y * width + x]);
    if (second.values != nullptr && y < second.height && x < second.width) {
        value = add(value, to_float(second.values[static_cast<long long>(y) * second.stride + x]));
    }
    return relu && value < 0.0f ? 0.0f : value;
}

// Bring `rows` rows of the sum, from row `base` on, to shared memory.
template <typename T>
__device__ void stage_inputs(const T* input, const Second<T>& second, int base, int rows,
                             int height, int width, int relu, float* staged) {
    constexpr int lanes = Wide<T>::lanes;
    const T* from = input + base * width;
    const T* other = second.values == nullptr ? nullptr : second.values + base * width;
    const bool is_dense =
        second.values == nullptr ||
        (second.stride == width && second.height >= height && is_wide(other, lanes));
    if (!is_dense || !is_wide(from, rows * width)) {
        for (int i = threadIdx.x; i < rows * width; i += kMapThreads) {
            const int y = i / width;
            staged[i] = input_at(input, second, base + y, i - y * width, width, relu);
        }
        return;
    }
    for (int i = threadIdx.x * lanes; i < rows * width; i += kMapThreads * lanes) {
        Pack<lanes> sum = Access<T, lanes>::load(from + i);
        if (other != nullptr) {
            const Pack<lanes> pack = Access<T, lanes>::load(other + i);
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

// A band of rows of one plane.
template <typename T, int N>
__device__ void upsample_block(const T* input, const T* second_input, const T* const* maps,
                               const int* shapes, const int* picks, T* output, int channels,
                               int height, int width, int out_height, int out_width,
                               int align_corners, int relu, int levels, int step, int band_rows,
                               int stage_rows) {
    FOVEATE_DYNAMIC_SHARED(float, staged);
    float* const shares = staged + stage_rows * width;
    int* const firsts = reinterpret_cast<int*>(shares + out_width + band_rows);
    const int bands = ceil_div(out_height, band_rows), plane = blockIdx.x / bands;
    const int top = (blockIdx.x - plane * bands) * band_rows;
    const int rows = smaller(band_rows, out_height - top), n = plane / channels;
    const T* from = input + static_cast<long long>(plane) * height * width;
    const Second<T> second = second_of(second_input, maps, shapes, picks, levels, step, n,
                                       plane - n * channels, channels, height, width);
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
        stage_inputs(from, second, base, end - base, height, width, relu, staged);
    }
    __syncthreads();
    T* to = output + (static_cast<long long>(plane) * out_height + top) * out_width;
    for (int i = threadIdx.x * N; i < rows * out_width; i += kMapThreads * N) {
        int row = i / out_width, column = i - row * out_width;
        Pack<N> pack;
#pragma unroll
        for (int lane = 0; lane < N; ++lane) {
            const float down = shares[out_width + row], across = shares[column];
            // A sample of which nothing is taken need not exist.
            const int y0 = firsts[out_width + row], y1 = y0 + (down > 0.0f);
            const int x0 = firsts[column], x1 = x0 + (across > 0.0f);
            float corner[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int y = j < 2 ? y0 : y1, x = j % 2 == 0 ? x0 : x1;
                corner[j] = is_staged ? staged[(y - base) * width + x]
                                      : input_at(from, second, y, x, width, relu);
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

#define FOVEATE_MAP_KERNEL(suffix, T, N)                                                         \
    extern "C" __global__ void __launch_bounds__(foveate::kMapThreads, foveate::kMapBlocks)      \
        foveate_upsample_map_##suffix(                                                           \
            const T* __restrict__ input, const T* __restrict__ second,                           \
            const T* const* __restrict__ maps, const int* __restrict__ shapes,                   \
            const int* __restrict__ picks, T* __restrict__ output, int planes, int channels,     \
            int height, int width, int out_height, int out_width, int align_corners, int relu,   \
            int levels, int step, int band_rows, int stage_rows) {                               \
        if (static_cast<int>(blockIdx.x) / foveate::ceil_div(out_height, band_rows) >= planes) { \
            return;                                                                              \
        }                                                                                        \
        foveate::upsample_block<T, N>(input, second, maps, shapes, picks, output, channels,      \
                                      height, width, out_height, out_width, align_corners, relu, \
                                      levels, step, band_rows, stage_rows);                      \
    }

FOVEATE_MAP_KERNEL(f32x4, float, 4)
FOVEATE_MAP_KERNEL(f32x1, float, 1)
FOVEATE_MAP_KERNEL(f16x8, foveate::Half, 8)
FOVEATE_MAP_KERNEL(f16x1, foveate::Half, 1)

#undef FOVEATE_MAP_KERNEL

#endif
