// SPDX-License-Identifier: Apache-2.0
// Tiles of resampled pixels: the part of the image that a tile is made of, and its pixels.
//
// An axis that grows is blended between pixel centers, one that shrinks is averaged over areas.
#pragma once

#include "device/blend.cuh"
#include "device/pack.cuh"

namespace foveate {

constexpr int kTileThreads = 256;
constexpr int kTileSide = 64;
constexpr int kBandRows = 16;
constexpr int kStageBytes = 20480;

// One axis: `old` pixels become `length`.
struct Axis {
    int old, length;
};

FOVEATE_BOTH bool is_averaged(const Axis& axis) { return axis.length < axis.old; }

FOVEATE_BOTH Blend axis_blend(const Axis& axis, int index) {
    return half_pixel_blend(index, axis.old, axis.length);
}

// The pixels [first, last) that pixel `index` of the result is made of.
FOVEATE_BOTH Cover axis_reach(const Axis& axis, int index) {
    if (is_averaged(axis)) return cover_at(index, axis.old, axis.length);
    const Blend blend = axis_blend(axis, index);
    return {blend.first, blend.second + 1, 0, 0};
}

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

FOVEATE_BOTH Pack<3> mixed(const Pack<3>& first, const Pack<3>& second, float share) {
    Pack<3> result;
#pragma unroll
    for (int i = 0; i < 3; ++i) result.lane[i] = mix(first.lane[i], second.lane[i], share);
    return result;
}

FOVEATE_BOTH void add_part(Pack<3>& sum, int part, const Pack<3>& value) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        sum.lane[i] = add(sum.lane[i], mul(static_cast<float>(part), value.lane[i]));
    }
}

FOVEATE_BOTH Pack<3> share_of(const Pack<3>& sum, int whole) {
    Pack<3> result;
#pragma unroll
    for (int i = 0; i < 3; ++i) result.lane[i] = divide(sum.lane[i], static_cast<float>(whole));
    return result;
}

// A pixel of one row, resampled along x.
FOVEATE_BOTH Pack<3> resampled_row(const Source& source, const Axis& across, int y, int column) {
    if (!is_averaged(across)) {
        const Blend blend = axis_blend(across, column);
        return mixed(pixel_at(source, y, blend.first), pixel_at(source, y, blend.second),
                     blend.share);
    }
    const Cover cover = cover_at(column, across.old, across.length);
    Pack<3> sum{{0.0f, 0.0f, 0.0f}};
    for (int x = cover.first; x < cover.last; ++x) {
        add_part(sum, covered(cover, x, across.length), pixel_at(source, y, x));
    }
    return share_of(sum, across.old);
}

// A resampled pixel, 0 to 255.
FOVEATE_BOTH Pack<3> resampled(const Source& source, const Axis& down, const Axis& across, int row,
                               int column) {
    if (!is_averaged(down)) {
        const Blend blend = axis_blend(down, row);
        return mixed(resampled_row(source, across, blend.first, column),
                     resampled_row(source, across, blend.second, column), blend.share);
    }
    const Cover cover = cover_at(row, down.old, down.length);
    Pack<3> sum{{0.0f, 0.0f, 0.0f}};
    for (int y = cover.first; y < cover.last; ++y) {
        add_part(sum, covered(cover, y, down.length), resampled_row(source, across, y, column));
    }
    return share_of(sum, down.old);
}

FOVEATE_BOTH int to_byte(float value) { return clamp(static_cast<int>(rintf(value)), 0, 255); }

// The area of the image that the resampled pixels [row, row_end) x [column, column_end) are made
// of.
FOVEATE_BOTH Area area_of(const Axis& down, const Axis& across, int row, int row_end, int column,
                          int column_end) {
    if (row >= row_end || column >= column_end) return {0, 0, 0, 0};
    const int top = axis_reach(down, row).first, left = axis_reach(across, column).first;
    return {top, left, axis_reach(down, row_end - 1).last - top,
            axis_reach(across, column_end - 1).last - left};
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

// Make a tile of the canvas: `sink.put` takes each pixel, `sink.flush` each complete band.
template <typename Sink>
__device__ void make_tile(const unsigned char* image, const Axis& down, const Axis& across,
                          const Placement& placement, int tile, unsigned char* staged,
                          const Sink& sink) {
    const int across_tiles = ceil_div(placement.canvas_width, kTileSide);
    const int top = tile / across_tiles * kTileSide, left = tile % across_tiles * kTileSide;
    const int bottom = smaller(top + kTileSide, placement.canvas_height);
    const int right = smaller(left + kTileSide, placement.canvas_width);
    const int column = larger(left - placement.border, 0);
    const int column_end = smaller(right - placement.border, placement.width);
    Source source{image, staged, across.old, true, {0, 0, 0, 0}};
    for (int start = top, end; start < bottom; start = end) {
        const int row = larger(start - placement.border, 0);
        for (int rows = kBandRows;; rows /= 2) {
            end = smaller(start + rows, bottom);
            const int row_end = smaller(end - placement.border, placement.height);
            source.area = area_of(down, across, row, row_end, column, column_end);
            source.is_staged = fits(source.area);
            if (source.is_staged || rows == 1) break;
        }
        if (source.is_staged) stage_area(source, down.old, staged);
        __syncthreads();
        for (int i = threadIdx.x; i < (end - start) * kTileSide; i += kTileThreads) {
            const int y = start + i / kTileSide, x = left + i % kTileSide;
            const int from_row = y - placement.border, from_column = x - placement.border;
            const bool inside = x < right && from_row >= 0 && from_row < placement.height &&
                                from_column >= 0 && from_column < placement.width;
            const float fill = static_cast<float>(placement.fill);
            Pack<3> pixel{{fill, fill, fill}};
            if (inside) pixel = resampled(source, down, across, from_row, from_column);
            __syncwarp();  // a warp stores 32 neighbors together, also outside of the image
            if (x < right) sink.put(y, x, pixel);
        }
        __syncthreads();
        sink.flush(start, end, left, right);
    }
}

}  // namespace foveate
