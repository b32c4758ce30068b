// SPDX-License-Identifier: Apache-2.0
// The bins of a ROI, and the maximum over a bin. Rounding 0 is "caffe", 1 is "v2"; reference.py
// defines both.
#pragma once

#include "device/pack.cuh"

namespace foveate {

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

}  // namespace foveate
