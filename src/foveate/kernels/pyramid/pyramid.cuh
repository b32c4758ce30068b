// SPDX-License-Identifier: Apache-2.0
// Resizes a picture (H, W, 3) uint8 and lays it, normalised, on the canvases of all levels in one
// launch; or resizes it to bytes.
//
// Bound: bytes. A block makes a tile of 32 x 8 pixels, stages the part of the picture that it needs
// in shared memory by accesses of 4 bytes, and writes each plane once.
//
// Kernels:
//   foveate_pyramid_place_f32, _f16  block (256), grid (tiles of all levels' canvases)
//   foveate_pyramid_resize           block (256), grid (tiles of the resized picture)
// both with 24,576 bytes of dynamic shared memory; H x W pixels are ceil(H / 8) * ceil(W / 32)
// tiles. Tiles that need more than the shared memory read the picture directly.
//
// Resampling 0, of host.py and reference.py: an axis that grows is blended between pixel centres,
// one that shrinks is averaged over areas. Resampling 1, of the original: blended, first and last
// pixels in common, no averaging.
#ifndef FOVEATE_PYRAMID_CUH
#define FOVEATE_PYRAMID_CUH

#include "bilinear_upsample/blend.cuh"
#include "device/shared.cuh"

namespace foveate {

constexpr int kTileThreads = 256;
constexpr int kTileBlocks = 4;  // a multiprocessor; aiming at more, ptxas spills on sm_86 to sm_89
constexpr int kTileWidth = 32;
constexpr int kTileHeight = 8;
constexpr int kTileBytes = 24576;
constexpr int kLevelNumbers = 6;  // of a level's row in `plan`

// One axis: `old` pixels become `length`.
struct Axis {
    int old, length, resampling;
};

FOVEATE_BOTH bool is_averaged(const Axis& axis) {
    return axis.resampling == 0 && axis.length < axis.old;
}

FOVEATE_BOTH Blend axis_blend(const Axis& axis, int index) {
    return axis.resampling == 1 ? corner_blend(index, axis.old, axis.length)
                                : half_pixel_blend(index, axis.old, axis.length);
}

// The pixels [first, last) that `index` is made of.
FOVEATE_BOTH Cover axis_reach(const Axis& axis, int index) {
    if (is_averaged(axis)) return cover_at(index, axis.old, axis.length);
    const Blend blend = axis_blend(axis, index);
    return {blend.first, blend.second + 1, 0, 0};
}

// The picture, of which a rectangle may be staged; its rows keep their address modulo 4.
struct Source {
    const unsigned char* picture;
    const unsigned char* staged;  // null if nothing is staged
    int width, left, top, row_bytes;
};

FOVEATE_BOTH float byte_at(const Source& source, int y, int x, int channel) {
    const long long row = static_cast<long long>(y) * source.width;
    if (source.staged == nullptr) return source.picture[3 * (row + x) + channel];
    const int shift = static_cast<int>(3 * (row + source.left) & 3);
    return source
        .staged[(y - source.top) * source.row_bytes + shift + 3 * (x - source.left) + channel];
}

// One channel of one row, resampled along x.
FOVEATE_BOTH float resampled_row(const Source& source, const Axis& across, int y, int column,
                                 int channel) {
    if (!is_averaged(across)) {
        const Blend blend = axis_blend(across, column);
        return mix(byte_at(source, y, blend.first, channel),
                   byte_at(source, y, blend.second, channel), blend.share);
    }
    const Cover cover = cover_at(column, across.old, across.length);
    float sum = 0.0f;
    for (int x = cover.first; x < cover.last; ++x) {
        sum = add(sum, mul(static_cast<float>(covered(cover, x, across.length)),
                           byte_at(source, y, x, channel)));
    }
    return divide(sum, static_cast<float>(across.old));
}

// One channel of one pixel of the level, 0 to 255.
FOVEATE_BOTH float resampled(const Source& source, const Axis& down, const Axis& across, int row,
                             int column, int channel) {
    if (!is_averaged(down)) {
        const Blend blend = axis_blend(down, row);
        return mix(resampled_row(source, across, blend.first, column, channel),
                   resampled_row(source, across, blend.second, column, channel), blend.share);
    }
    const Cover cover = cover_at(row, down.old, down.length);
    float sum = 0.0f;
    for (int y = cover.first; y < cover.last; ++y) {
        sum = add(sum, mul(static_cast<float>(covered(cover, y, down.length)),
                           resampled_row(source, across, y, column, channel)));
    }
    return divide(sum, static_cast<float>(down.old));
}

FOVEATE_BOTH int to_byte(float value) { return clamp(static_cast<int>(rintf(value)), 0, 255); }

// Stage what the level's pixels [rows) x [columns) are made of, if it fits. The whole block calls
// it.
__device__ inline Source stage(const unsigned char* picture, const Axis& down, const Axis& across,
                               int row, int row_end, int column, int column_end, unsigned* shared) {
    Source source{picture, nullptr, across.old, 0, 0, 0};
    if (row >= row_end || column >= column_end) return source;
    const int top = axis_reach(down, row).first, bottom = axis_reach(down, row_end - 1).last;
    const int left = axis_reach(across, column).first;
    const int right = axis_reach(across, column_end - 1).last;
    const int row_words = (3 * (right - left) + 6) / 4;
    const long long all = 3LL * down.old * across.old;
    if (static_cast<long long>(bottom - top) * row_words * 4 > kTileBytes) return source;
    for (int i = threadIdx.x; i < (bottom - top) * row_words; i += kTileThreads) {
        const int y = i / row_words, word = i - y * row_words;
        const long long start = 3 * (static_cast<long long>(top + y) * across.old + left);
        const long long at = (start & ~3LL) + 4 * word;
        unsigned bytes = 0u;
        if (at + 4 <= all) {
            bytes = *reinterpret_cast<const unsigned*>(picture + at);
        } else {
            for (int j = 0; j < 4; ++j) {
                if (at + j < all) bytes |= static_cast<unsigned>(picture[at + j]) << (8 * j);
            }
        }
        shared[i] = bytes;
    }
    source.staged = reinterpret_cast<const unsigned char*>(shared);
    source.left = left;
    source.top = top;
    source.row_bytes = 4 * row_words;
    return source;
}

// A level's row in `plan`.
struct Level {
    int canvas_height, canvas_width, height, width, border, first_block;
};

FOVEATE_BOTH Level level_at(const int* plan, int level) {
    const int* row = plan + kLevelNumbers * level;
    return {row[0], row[1], row[2], row[3], row[4], row[5]};
}

// A tile of one level's canvas. `table` (3, 256) are the normalised values of the bytes.
template <typename T>
__device__ void place_block(const unsigned char* picture, T* const* canvases, const int* plan,
                            const float* table, int picture_height, int picture_width, int levels,
                            int resampling, int to_bytes, int fill) {
    FOVEATE_DYNAMIC_SHARED(unsigned, shared);
    int index = 0;
    while (index + 1 < levels &&
           static_cast<int>(blockIdx.x) >= level_at(plan, index + 1).first_block) {
        ++index;
    }
    const Level level = level_at(plan, index);
    const int across_tiles = ceil_div(level.canvas_width, kTileWidth);
    const int tile = blockIdx.x - level.first_block, tile_row = tile / across_tiles;
    const int top = tile_row * kTileHeight, left = (tile - tile_row * across_tiles) * kTileWidth;
    const Axis down{picture_height, level.height, resampling};
    const Axis across{picture_width, level.width, resampling};
    const int row_end = smaller(top + kTileHeight - level.border, level.height);
    const int column_end = smaller(left + kTileWidth - level.border, level.width);
    const Source source = stage(picture, down, across, larger(top - level.border, 0), row_end,
                                larger(left - level.border, 0), column_end, shared);
    __syncthreads();
    const int y = top + threadIdx.x / kTileWidth, x = left + threadIdx.x % kTileWidth;
    if (y >= level.canvas_height || x >= level.canvas_width) return;
    const int row = y - level.border, column = x - level.border;
    const bool inside = row >= 0 && row < level.height && column >= 0 && column < level.width;
    T* canvas = canvases[index];
    for (int channel = 0; channel < 3; ++channel) {
        const float* values = table + 256 * channel;
        float value = values[fill];
        if (inside) {
            const float sample = resampled(source, down, across, row, column, channel);
            const float step = divide(add(values[255], -values[0]), 255.0f);
            value = to_bytes ? values[to_byte(sample)] : add(values[0], mul(sample, step));
        }
        const long long row_start =
            (static_cast<long long>(channel) * level.canvas_height + y) * level.canvas_width;
        canvas[row_start + x] = from_float<T>(value);
    }
}

// A tile of the resized picture.
__device__ inline void resize_block(const unsigned char* picture, unsigned char* resized,
                                    int picture_height, int picture_width, int height, int width,
                                    int resampling) {
    FOVEATE_DYNAMIC_SHARED(unsigned, shared);
    const int across_tiles = ceil_div(width, kTileWidth), tile_row = blockIdx.x / across_tiles;
    const int top = tile_row * kTileHeight;
    const int left = (blockIdx.x - tile_row * across_tiles) * kTileWidth;
    const Axis down{picture_height, height, resampling}, across{picture_width, width, resampling};
    const Source source = stage(picture, down, across, top, smaller(top + kTileHeight, height),
                                left, smaller(left + kTileWidth, width), shared);
    __syncthreads();
    const int y = top + threadIdx.x / kTileWidth, x = left + threadIdx.x % kTileWidth;
    if (y >= height || x >= width) return;
    unsigned char* to = resized + 3 * (static_cast<long long>(y) * width + x);
    for (int channel = 0; channel < 3; ++channel) {
        to[channel] =
            static_cast<unsigned char>(to_byte(resampled(source, down, across, y, x, channel)));
    }
}

}  // namespace foveate

#define FOVEATE_PLACE_KERNEL(suffix, T)                                                          \
    extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)    \
        foveate_pyramid_place_##suffix(                                                          \
            const unsigned char* __restrict__ picture, T* const* __restrict__ canvases,          \
            const int* __restrict__ plan, const float* __restrict__ table, int picture_height,   \
            int picture_width, int levels, int blocks, int resampling, int to_bytes, int fill) { \
        if (static_cast<int>(blockIdx.x) >= blocks) return;                                      \
        foveate::place_block<T>(picture, canvases, plan, table, picture_height, picture_width,   \
                                levels, resampling, to_bytes, fill);                             \
    }

FOVEATE_PLACE_KERNEL(f32, float)
FOVEATE_PLACE_KERNEL(f16, foveate::Half)

#undef FOVEATE_PLACE_KERNEL

extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)
    foveate_pyramid_resize(const unsigned char* __restrict__ picture,
                           unsigned char* __restrict__ resized, int picture_height,
                           int picture_width, int height, int width, int resampling) {
    foveate::resize_block(picture, resized, picture_height, picture_width, height, width,
                          resampling);
}

#endif
