// SPDX-License-Identifier: Apache-2.0
// ROI max pooling on channel-last maps (Girshick, "Fast R-CNN", ICCV 2015, section 2.1).
//
// Bound by memory traffic. Each bin reads its pixels of the map once (mostly from L2), and each
// output is written once, both in accesses of 16 bytes if the channels are a multiple of 4
// (float32) or 8 (float16).
//
// Versions:
//   foveate_roi_max_pool_*         direct: reads every pixel of every bin
//   foveate_square_table_*         makes a map of the maxima of 2h x 2h windows from one of h x h
//   foveate_roi_max_pool_tables_*  a bin is the maximum of a few look-ups in the maps of windows of
//                                  1, 2, 4 and 8 pixels per side; for large bins or a small L2
// Each has the suffixes f32x4, f32x1, f16x8 and f16x1: element type and elements per access.
//
// Launch of the poolings: block (128), grid (rois * ceil(rows * columns * channels / lanes / 128)).
// Launch of the table: block (128), grid (ceil(batch * height * width * channels / lanes / 128)).
// No shared memory, no barrier.
//
// reference.py defines the result: rounding 0 is "caffe", 1 is "v2". A NaN in a bin makes the bin
// NaN. A ROI with a NaN, or of a map that does not exist, gives 0. Map coordinates are clamped to
// 2^28.
#ifndef FOVEATE_ROI_MAX_POOL_CUH
#define FOVEATE_ROI_MAX_POOL_CUH

#include "device/pack.cuh"

namespace foveate {

constexpr int kPoolThreads = 128;
constexpr float kFarthest = 268435456.0f;  // coordinates are clamped to 2^28

struct Range {
    int first;  // inclusive
    int last;   // exclusive
};

// Return a corner of a ROI in whole pixels of the map.
FOVEATE_BOTH int roi_corner(float value, float scale) {
    const float scaled = mul(value, scale);
    return static_cast<int>(round_half_away(fminf(fmaxf(scaled, -kFarthest), kFarthest)));
}

// Return the pixels of bin `index` of `count` along an axis, clipped to [0, limit). `mul` and
// `divide` round each result, as reference.py does: one unit in the last place can move an edge.
FOVEATE_BOTH Range bin_range(int start, int end, int index, int count, int limit, int rounding) {
    const bool caffe = rounding == 0;
    const int size = larger(end - start + (caffe ? 1 : 0), 1);
    const float step = divide(static_cast<float>(size), static_cast<float>(count));
    const float low = mul(static_cast<float>(index), step);
    const float high = mul(static_cast<float>(index + 1), step);
    const int first = static_cast<int>(caffe ? floorf(low) : round_half_away(low));
    const int last = static_cast<int>(caffe ? ceilf(high) : round_half_away(high));
    return {clamp(first + start, 0, limit), clamp(last + start, 0, limit)};
}

struct Bin {
    int map;  // index in the batch
    Range rows;
    Range columns;
};

// A ROI (map, x0, y0, x1, y1) is empty if its map does not exist or a corner is NaN.
FOVEATE_BOTH Bin bin_of(const float* roi, int bin, int batch, int height, int width, int rows,
                        int columns, float scale, int rounding) {
    const float map = roi[0], x0 = roi[1], y0 = roi[2], x1 = roi[3], y1 = roi[4];
    const bool usable = map >= 0.0f && map < static_cast<float>(batch) && x0 == x0 && y0 == y0 &&
                        x1 == x1 && y1 == y1;
    if (!usable) return {0, {0, 0}, {0, 0}};
    const int row = bin / columns;
    return {static_cast<int>(map),
            bin_range(roi_corner(y0, scale), roi_corner(y1, scale), row, rows, height, rounding),
            bin_range(roi_corner(x0, scale), roi_corner(x1, scale), bin - row * columns, columns,
                      width, rounding)};
}

FOVEATE_BOTH bool is_empty(const Bin& bin) {
    return bin.rows.last <= bin.rows.first || bin.columns.last <= bin.columns.first;
}

template <int N>
FOVEATE_BOTH void take_max(Pack<N>& best, const Pack<N>& other) {
#pragma unroll
    for (int i = 0; i < N; ++i) best.lane[i] = max_or_nan(best.lane[i], other.lane[i]);
}

// Return the maximum over a bin. `map` points to the first of the N channels at pixel (0, 0).
template <typename T, int N>
FOVEATE_BOTH Pack<N> direct_maximum(const T* map, const Bin& bin, int width, int channels) {
    Pack<N> best;
#pragma unroll
    for (int i = 0; i < N; ++i) best.lane[i] = is_empty(bin) ? 0.0f : negative_infinity();
    for (int y = bin.rows.first; y < bin.rows.last; ++y) {
        const T* row = map + static_cast<long long>(y) * width * channels;
        for (int x = bin.columns.first; x < bin.columns.last; ++x) {
            take_max<N>(best, Access<T, N>::load(row + static_cast<long long>(x) * channels));
        }
    }
    return best;
}

// Return the same from tables: windows of one size cover the bin, and the last window of a row or
// column is shifted back into the bin.
template <typename T, int N>
FOVEATE_BOTH Pack<N> table_maximum(const T* map, const T* table2, const T* table4, const T* table8,
                                   const Bin& bin, int width, int channels) {
    Pack<N> best;
#pragma unroll
    for (int i = 0; i < N; ++i) best.lane[i] = is_empty(bin) ? 0.0f : negative_infinity();
    if (is_empty(bin)) return best;
    const int side = smaller(bin.rows.last - bin.rows.first, bin.columns.last - bin.columns.first);
    const int window = side >= 8 ? 8 : side >= 4 ? 4 : side >= 2 ? 2 : 1;
    const T* table = window == 8 ? table8 : window == 4 ? table4 : window == 2 ? table2 : map;
    for (int y = bin.rows.first; y < bin.rows.last; y += window) {
        const T* row =
            table + static_cast<long long>(smaller(y, bin.rows.last - window)) * width * channels;
        for (int x = bin.columns.first; x < bin.columns.last; x += window) {
            const int column = smaller(x, bin.columns.last - window);
            take_max<N>(best, Access<T, N>::load(row + static_cast<long long>(column) * channels));
        }
    }
    return best;
}

template <typename T, int N, bool kTables>
FOVEATE_BOTH void pool_item(int block, int thread, const T* map, const T* table2, const T* table4,
                            const T* table8, const float* rois, T* pooled, int batch, int height,
                            int width, int channels, int roi_count, int rows, int columns,
                            float scale, int rounding) {
    const int groups = channels / N, items = rows * columns * groups;
    const int blocks = ceil_div(items, kPoolThreads);
    const int roi = block / blocks;
    const int item = (block - roi * blocks) * kPoolThreads + thread;
    if (roi >= roi_count || item >= items) return;
    const int cell = item / groups, channel = (item - cell * groups) * N;
    const Bin bin = bin_of(rois + static_cast<long long>(roi) * 5, cell, batch, height, width, rows,
                           columns, scale, rounding);
    const long long start = static_cast<long long>(bin.map) * height * width * channels + channel;
    const Pack<N> best = kTables ? table_maximum<T, N>(map + start, table2 + start, table4 + start,
                                                       table8 + start, bin, width, channels)
                                 : direct_maximum<T, N>(map + start, bin, width, channels);
    Access<T, N>::store(pooled + (static_cast<long long>(roi) * items + item) * N, best);
}

// table[y][x] = maximum of `source` at (y, x), (y + half, x), (y, x + half), (y + half, x + half),
// clipped to the map, where `source` holds the maxima of half x half windows.
template <typename T, int N>
FOVEATE_BOTH void table_item(int block, int thread, const T* source, T* table, int batch,
                             int height, int width, int channels, int half) {
    const int groups = channels / N;
    const long long item = static_cast<long long>(block) * kPoolThreads + thread;
    if (item >= static_cast<long long>(batch) * height * width * groups) return;
    const long long pixel = item / groups;
    const int x = static_cast<int>(pixel % width);
    const int y = static_cast<int>(pixel / width % height);
    const int right = smaller(x + half, width - 1) - x, down = smaller(y + half, height - 1) - y;
    const T* from = source + item * N;
    const long long across = static_cast<long long>(right) * channels;
    const long long below = static_cast<long long>(down) * width * channels;
    Pack<N> best = Access<T, N>::load(from);
    take_max<N>(best, Access<T, N>::load(from + across));
    take_max<N>(best, Access<T, N>::load(from + below));
    take_max<N>(best, Access<T, N>::load(from + below + across));
    Access<T, N>::store(table + item * N, best);
}

}  // namespace foveate

#define FOVEATE_POOL_KERNELS(suffix, T, N)                                                         \
    extern "C" __global__ void __launch_bounds__(foveate::kPoolThreads)                            \
        foveate_roi_max_pool_##suffix(                                                             \
            const T* __restrict__ features, const float* __restrict__ rois,                        \
            T* __restrict__ pooled, int batch, int height, int width, int channels, int roi_count, \
            int rows, int columns, float scale, int rounding) {                                    \
        foveate::pool_item<T, N, false>(blockIdx.x, threadIdx.x, features, features, features,     \
                                        features, rois, pooled, batch, height, width, channels,    \
                                        roi_count, rows, columns, scale, rounding);                \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(foveate::kPoolThreads)                            \
        foveate_roi_max_pool_tables_##suffix(                                                      \
            const T* __restrict__ features, const T* __restrict__ table2,                          \
            const T* __restrict__ table4, const T* __restrict__ table8,                            \
            const float* __restrict__ rois, T* __restrict__ pooled, int batch, int height,         \
            int width, int channels, int roi_count, int rows, int columns, float scale,            \
            int rounding) {                                                                        \
        foveate::pool_item<T, N, true>(blockIdx.x, threadIdx.x, features, table2, table4, table8,  \
                                       rois, pooled, batch, height, width, channels, roi_count,    \
                                       rows, columns, scale, rounding);                            \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(foveate::kPoolThreads)                            \
        foveate_square_table_##suffix(const T* __restrict__ source, T* __restrict__ table,         \
                                      int batch, int height, int width, int channels, int half) {  \
        foveate::table_item<T, N>(blockIdx.x, threadIdx.x, source, table, batch, height, width,    \
                                  channels, half);                                                 \
    }

FOVEATE_POOL_KERNELS(f32x4, float, 4)
FOVEATE_POOL_KERNELS(f32x1, float, 1)
FOVEATE_POOL_KERNELS(f16x8, foveate::Half, 8)
FOVEATE_POOL_KERNELS(f16x1, foveate::Half, 1)

#undef FOVEATE_POOL_KERNELS

#endif
