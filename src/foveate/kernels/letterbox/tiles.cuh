// SPDX-License-Identifier: Apache-2.0
// Tiles of resampled pixels: the part of the image that a tile is made of, and its pixels.
//
// Bytes are resampled as OpenCV does it, by the samples and weights of taps.py.
#pragma once

#include "device/pack.cuh"

namespace foveate {

constexpr int kTileThreads = 256;
constexpr int kTileSide = 64;
constexpr int kBandRows = 16;
constexpr int kStageBytes = 20480;

// The samples of an axis that a pixel is made of, and the weights of the first, of those between,
// and of the last.
struct Tap {
    int first, last;
    float low, middle, high;
};

// Methods of taps.py.
constexpr int kBlended = 0;
constexpr int kHalved = 2;

// The resampling of an image to `height` rows; the taps of the rows are followed by those of the
// columns.
struct Resampling {
    const Tap* taps;
    int height, method;
    float scale;
};

// The taps of a tile, in shared memory.
struct Taps {
    Tap rows[kTileSide];
    Tap columns[kTileSide];
};

// Pixels of the image. In shared memory its rows keep their address modulo 16.
struct Area {
    int top, left, rows, columns;
};

FOVEATE_BOTH int row_bytes(const Area& area) { return (3 * area.columns + 30) & ~15; }

FOVEATE_BOTH bool fits(const Area& area) {
    return static_cast<long long>(area.rows) * row_bytes(area) <= kStageBytes;
}

// The image, and the part of it that is staged, if any.
struct Source {
    const unsigned char* image;
    const unsigned char* staged;
    int width;
    bool is_staged;
    Area area;
};

// The first byte of a row of an area, counted from the image's first byte.
FOVEATE_BOTH long long row_start(const Source& source, int y) {
    return 3 * (static_cast<long long>(y) * source.width + source.area.left);
}

// Number of bytes from the last multiple of `size` to an address.
FOVEATE_BOTH int behind(const unsigned char* place, long long offset, int size) {
    return static_cast<int>((reinterpret_cast<unsigned long long>(place) + offset) & (size - 1));
}

FOVEATE_BOTH Pack<3> color(const unsigned char* from) {
    return {
        {static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2])}};
}

FOVEATE_BOTH Pack<3> pixel_at(const Source& source, int y, int x) {
    const Area& area = source.area;
    const long long start = row_start(source, y);
    const int column = 3 * (x - area.left);
    if (!source.is_staged) return color(source.image + start + column);
    return color(source.staged + (y - area.top) * row_bytes(area) +
                  behind(source.image, start, 16) + column);
}

// Part of the weighted sum of one row, exactly: whole numbers below 2^24.
FOVEATE_BOTH Pack<3> blended_row(const Source& source, const Tap& across, int y) {
    const Pack<3> first = pixel_at(source, y, across.first);
    const Pack<3> last = pixel_at(source, y, across.last);
    Pack<3> sum;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        sum.lane[i] = add(mul(first.lane[i], across.low), mul(last.lane[i], across.high));
    }
    return sum;
}

// A share of a sum in units of 1/2048, in units of 1/4.
FOVEATE_BOTH int fixed_share(float sum, float share) {
    return (static_cast<int>(share) * (static_cast<int>(sum) >> 4)) >> 16;
}

FOVEATE_BOTH Pack<3> blended(const Source& source, const Tap& down, const Tap& across) {
    const Pack<3> first = blended_row(source, across, down.first);
    const Pack<3> last = blended_row(source, across, down.last);
    Pack<3> result;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const int quarters =
            fixed_share(first.lane[i], down.low) + fixed_share(last.lane[i], down.high);
        result.lane[i] = static_cast<float>((quarters + 2) >> 2);
    }
    return result;
}

// The weight of sample `at` of a tap.
FOVEATE_BOTH float weight_of(const Tap& tap, int at) {
    return at == tap.first ? tap.low : at == tap.last ? tap.high : tap.middle;
}

FOVEATE_BOTH void add_part(Pack<3>& sum, float weight, const Pack<3>& value) {
#pragma unroll
    for (int i = 0; i < 3; ++i) sum.lane[i] = add(sum.lane[i], mul(weight, value.lane[i]));
}

FOVEATE_BOTH Pack<3> averaged_row(const Source& source, const Tap& across, int y) {
    Pack<3> sum{{0.0f, 0.0f, 0.0f}};
    for (int x = across.first; x <= across.last; ++x) {
        add_part(sum, weight_of(across, x), pixel_at(source, y, x));
    }
    return sum;
}

FOVEATE_BOTH Pack<3> averaged(const Source& source, const Tap& down, const Tap& across) {
    Pack<3> sum{{0.0f, 0.0f, 0.0f}};
    for (int y = down.first; y <= down.last; ++y) {
        add_part(sum, weight_of(down, y), averaged_row(source, across, y));
    }
    return sum;
}

// A resampled pixel, in whole numbers from 0 to 255.
FOVEATE_BOTH Pack<3> resampled(const Source& source, const Resampling& resampling, const Tap& down,
                               const Tap& across) {
    if (resampling.method == kBlended) return blended(source, down, across);
    Pack<3> pixel = averaged(source, down, across);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const float value = mul(pixel.lane[i], resampling.scale);
        const float whole = resampling.method == kHalved ? floorf(add(value, 0.5f)) : rintf(value);
        pixel.lane[i] = static_cast<float>(clamp(static_cast<int>(whole), 0, 255));
    }
    return pixel;
}

// The area of the image that some rows and columns of taps cover.
FOVEATE_BOTH Area area_of(const Tap* rows, int row_count, const Tap* columns, int column_count) {
    if (row_count <= 0 || column_count <= 0) return {0, 0, 0, 0};
    const int top = rows[0].first, left = columns[0].first;
    return {top, left, rows[row_count - 1].last + 1 - top,
            columns[column_count - 1].last + 1 - left};
}

// Copy taps to shared memory, by all threads of a block.
__device__ inline void stage_taps(const Tap* from, int count, Tap* to) {
    constexpr int words = sizeof(Tap) / sizeof(int);
    for (int i = threadIdx.x; i < count * words; i += kTileThreads) {
        reinterpret_cast<int*>(to)[i] = reinterpret_cast<const int*>(from)[i];
    }
}

// Copy the source's area of an image of `height` rows to shared memory, by all threads of a block.
__device__ inline void stage_area(const Source& source, int height, unsigned char* staged) {
    const int bytes = row_bytes(source.area), chunks = bytes / 16;
    const long long all = 3LL * height * source.width;
    for (int i = threadIdx.x; i < source.area.rows * chunks; i += kTileThreads) {
        const int y = i / chunks, chunk = 16 * (i - y * chunks);
        const long long start = row_start(source, source.area.top + y);
        const long long at = start - behind(source.image, start, 16) + chunk;
        if (at >= start + 3 * source.area.columns) continue;
        unsigned char* to = staged + y * bytes + chunk;
        if (at >= 0 && at + 16 <= all) {
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(source.image + at);
        } else {
            for (int j = 0; j < 16; ++j) {
                if (at + j >= 0 && at + j < all) to[j] = source.image[at + j];
            }
        }
    }
}

// Where the resampled image lies on the canvas; `border` is the row and column of its first pixel,
// `fill` the byte around it.
struct Placement {
    int canvas_height, canvas_width, height, width, border, fill;
};

// Make a tile of the canvas from an image of `rows` x `columns` pixels: `sink.put` takes each pixel,
// `sink.flush` each complete band. `taps` and `staged` are shared memory.
template <typename Sink>
__device__ void make_tile(const unsigned char* image, int rows, int columns,
                          const Resampling& resampling, const Placement& placement, int tile,
                          Taps& taps, unsigned char* staged, const Sink& sink) {
    const int across_tiles = ceil_div(placement.canvas_width, kTileSide);
    const int top = tile / across_tiles * kTileSide, left = tile % across_tiles * kTileSide;
    const int bottom = smaller(top + kTileSide, placement.canvas_height);
    const int right = smaller(left + kTileSide, placement.canvas_width);
    // The tile's first row and column of the resampled image, and those after its last ones.
    const int row = larger(top - placement.border, 0);
    const int row_end = smaller(bottom - placement.border, placement.height);
    const int column = larger(left - placement.border, 0);
    const int column_end = smaller(right - placement.border, placement.width);
    stage_taps(resampling.taps + row, row_end - row, taps.rows);
    stage_taps(resampling.taps + resampling.height + column, column_end - column, taps.columns);
    __syncthreads();
    Source source{image, staged, columns, true, {0, 0, 0, 0}};
    for (int start = top, end; start < bottom; start = end) {
        const int first = larger(start - placement.border, 0);
        for (int band = kBandRows;; band /= 2) {
            end = smaller(start + band, bottom);
            const int last = smaller(end - placement.border, placement.height);
            source.area = area_of(taps.rows + (first - row), last - first, taps.columns,
                                  column_end - column);
            source.is_staged = fits(source.area);
            if (source.is_staged || band == 1) break;
        }
        if (source.is_staged) stage_area(source, rows, staged);
        __syncthreads();
        for (int i = threadIdx.x; i < (end - start) * kTileSide; i += kTileThreads) {
            const int y = start + i / kTileSide, x = left + i % kTileSide;
            const int from_row = y - placement.border, from_column = x - placement.border;
            const bool inside = x < right && from_row >= 0 && from_row < placement.height &&
                                from_column >= 0 && from_column < placement.width;
            const float fill = static_cast<float>(placement.fill);
            Pack<3> pixel{{fill, fill, fill}};
            if (inside) {
                pixel = resampled(source, resampling, taps.rows[from_row - row],
                                  taps.columns[from_column - column]);
            }
            __syncwarp();  // a warp stores 32 neighbors together, also outside of the image
            if (x < right) sink.put(y, x, pixel);
        }
        __syncthreads();
        sink.flush(start, end, left, right);
    }
}

}  // namespace foveate
