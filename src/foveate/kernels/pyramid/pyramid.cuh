// SPDX-License-Identifier: Apache-2.0
// Resizes an image (H, W, 3) uint8 and lays it, normalised, on the canvases of all levels in one
// launch; or resizes it to bytes.
//
// Bound: bytes. A block makes a tile of 64 x 64 pixels in bands of up to 16 rows: it stages the part
// of the image that a band is made of in shared memory, by accesses of 16 bytes, and writes each
// plane once, a warp 32 neighbours of a row. The table of normalised values is staged once a block.
//
// Kernels:
//   foveate_pyramid_place_f32, _f16  block (256), grid (tiles of all levels' canvases)
//   foveate_pyramid_resize           block (256), grid (tiles of the resized image)
// both with 23,808 bytes of dynamic shared memory; H x W pixels are ceil(H / 64) * ceil(W / 64)
// tiles. A row that needs more than the shared memory, of an image that shrinks to less than about
// a ninth, is made from the image directly.
//
// Resampling 0, of host.py and reference.py: an axis that grows is blended between pixel centres,
// one that shrinks is averaged over areas. Resampling 1, of the original: blended, first and last
// pixels in common, no averaging.
#ifndef FOVEATE_PYRAMID_CUH
#define FOVEATE_PYRAMID_CUH

#include "device/shared.cuh"
#include "pyramid/tiles.cuh"

namespace foveate {

constexpr int kTileBlocks = 3;  // a multiprocessor; aiming at more, ptxas spills on sm_75
constexpr int kBandRowBytes = 3 * kTileSide + 16;
constexpr int kHeadBytes = kBandRows * kBandRowBytes;  // a band of bytes, or the table (3, 256)

// Writes the planes of a canvas. `values` (3, 256) are the normalised values of the bytes.
template <typename T>
struct Canvas {
    T* planes;
    const float* values;
    int height, width, to_bytes, filling;

    __device__ void put(int y, int x, bool inside, const Pack<3>& pixel) const {
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            const float* table = values + 256 * channel;
            float value = table[filling];
            if (inside) {
                const float sample = pixel.lane[channel];
                const float step = divide(add(table[255], -table[0]), 255.0f);
                value = to_bytes ? table[to_byte(sample)] : add(table[0], mul(sample, step));
            }
            const long long row = static_cast<long long>(channel) * height + y;
            planes[row * width + x] = from_float<T>(value);
        }
    }
    __device__ void flush(int, int, int, int) const {}
};

// A tile of one level's canvas.
template <typename T>
__device__ void place_block(const unsigned char* image, T* const* canvases, const int* plan,
                            const float* table, int image_height, int image_width, int levels,
                            int resampling, int to_bytes, int fill) {
    FOVEATE_DYNAMIC_SHARED(unsigned char, shared);
    __shared__ Level level;
    __shared__ T* planes;
    float* values = reinterpret_cast<float*>(shared);
    if (threadIdx.x == 0) {
        int index = 0;
        while (index + 1 < levels && static_cast<int>(blockIdx.x) >=
                                         plan[kLevelNumbers * (index + 1) + kLevelNumbers - 1]) {
            ++index;
        }
        level = level_at(plan, index);
        planes = canvases[index];
    }
    for (int i = threadIdx.x; i < 3 * 256; i += kTileThreads) {
        const int byte = i % 256;
        if (to_bytes || byte == fill || byte == 0 || byte == 255) values[i] = table[i];
    }
    __syncthreads();
    const Canvas<T> canvas{planes, values, level.canvas_height, level.canvas_width, to_bytes, fill};
    make_tile(image, {image_height, level.height, resampling},
              {image_width, level.width, resampling}, level, blockIdx.x - level.first_block,
              shared + kHeadBytes, canvas);
}

// Gathers a band of resized pixels in shared memory, and writes it by accesses of 16 bytes.
struct Bytes {
    unsigned char* resized;
    unsigned char* band;  // its rows keep their address modulo 16
    int width;

    // Bytes [first, last) behind multiples of 16 bytes in both memories.
    struct Row {
        unsigned char *from, *to;
        int first, last;
    };

    __device__ Row row_of(int y, int left, int right) const {
        unsigned char* to = resized + 3 * (static_cast<long long>(y) * width + left);
        const int shift = behind(to, 0, 16);
        return {band + y % kBandRows * kBandRowBytes, to - shift, shift, shift + 3 * (right - left)};
    }
    __device__ void put(int y, int x, bool, const Pack<3>& pixel) const {
        const Row row = row_of(y, x - x % kTileSide, x);
        unsigned char* to = row.from + row.last;
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            to[channel] = static_cast<unsigned char>(to_byte(pixel.lane[channel]));
        }
    }
    __device__ void flush(int start, int end, int left, int right) const {
        // 16 bytes a thread; then what is left at both ends of a row, a byte a thread.
        constexpr int chunks = kBandRowBytes / 16;
        for (int i = threadIdx.x; i < (end - start) * chunks; i += kTileThreads) {
            const Row row = row_of(start + i / chunks, left, right);
            const int at = 16 * (i % chunks);
            if (at < row.first || at + 16 > row.last) continue;
            *reinterpret_cast<uint4*>(row.to + at) = *reinterpret_cast<const uint4*>(row.from + at);
        }
        for (int i = threadIdx.x; i < (end - start) * 32; i += kTileThreads) {
            const Row row = row_of(start + i / 32, left, right);
            const bool is_tail = i % 32 >= 16;
            const int chunk = is_tail ? row.last & ~15 : 0, at = chunk + i % 16;
            const bool is_written = chunk >= row.first && chunk + 16 <= row.last;
            if (is_written || (is_tail && chunk == 0)) continue;
            if (at >= row.first && at < row.last) row.to[at] = row.from[at];
        }
    }
};

// A tile of the resized image.
__device__ inline void resize_block(const unsigned char* image, unsigned char* resized,
                                    int image_height, int image_width, int height, int width,
                                    int resampling) {
    FOVEATE_DYNAMIC_SHARED(unsigned char, shared);
    make_tile(image, {image_height, height, resampling}, {image_width, width, resampling},
              {height, width, height, width, 0, 0}, blockIdx.x, shared + kHeadBytes,
              Bytes{resized, shared, width});
}

}  // namespace foveate

#define FOVEATE_PLACE_KERNEL(suffix, T)                                                          \
    extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)    \
        foveate_pyramid_place_##suffix(                                                          \
            const unsigned char* __restrict__ image, T* const* __restrict__ canvases,          \
            const int* __restrict__ plan, const float* __restrict__ table, int image_height,   \
            int image_width, int levels, int blocks, int resampling, int to_bytes, int fill) { \
        if (static_cast<int>(blockIdx.x) >= blocks) return;                                      \
        foveate::place_block<T>(image, canvases, plan, table, image_height, image_width,   \
                                levels, resampling, to_bytes, fill);                             \
    }

FOVEATE_PLACE_KERNEL(f32, float)
FOVEATE_PLACE_KERNEL(f16, foveate::Half)

#undef FOVEATE_PLACE_KERNEL

extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)
    foveate_pyramid_resize(const unsigned char* __restrict__ image,
                           unsigned char* __restrict__ resized, int image_height,
                           int image_width, int height, int width, int resampling) {
    foveate::resize_block(image, resized, image_height, image_width, height, width,
                          resampling);
}

#endif
