// SPDX-License-Identifier: Apache-2.0
// Resizes an image (H, W, 3) uint8, either to bytes or, normalized, onto canvases (3, H, W), all in
// one launch.
//
// Bound by memory traffic. A block makes a tile of 64 x 64 pixels in bands of up to 16 rows: it
// stages the part of the image that a band is made of in shared memory, by accesses of 16 bytes,
// and writes each plane once, 32 neighboring pixels of a row per warp. The table of normalized
// bytes and the samples and weights of its rows and columns are staged once per block.
//
// Kernels, both with blocks of 256 threads and 26,368 bytes of dynamic shared memory; H x W pixels
// are ceil(H / 64) * ceil(W / 64) tiles, and the grid has one block per tile:
//   foveate_letterbox_f32, _f16  tiles of all canvases, one canvas after the other
//   foveate_resize               tiles of the resized image
// If an image shrinks to less than about a ninth, a row can need more than the shared memory; it is
// then made directly from the image.
#ifndef FOVEATE_LETTERBOX_CUH
#define FOVEATE_LETTERBOX_CUH

#include "device/stage.cuh"
#include "letterbox/tiles.cuh"

namespace foveate {

constexpr int kTileBlocks = 3;  // per multiprocessor; with more, ptxas spills on sm_75
constexpr int kBandRowBytes = 3 * kTileSide + 16;
constexpr int kHeadBytes = kBandRows * kBandRowBytes;  // a band of bytes, or the table (3, 256)
constexpr int kStagedAt = kHeadBytes + sizeof(Taps);

FOVEATE_BOTH Taps& taps_in(unsigned char* shared) {
    return *reinterpret_cast<Taps*>(shared + kHeadBytes);
}

// Writes the planes of a canvas. `values` (3, 256) are the normalized values of the bytes.
template <typename T>
struct Canvas {
    T* planes;
    const float* values;
    int height, width;

    __device__ void put(int y, int x, const Pack<3>& pixel) const {
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            const float value = values[256 * channel + static_cast<int>(pixel.lane[channel])];
            const long long row = static_cast<long long>(channel) * height + y;
            planes[row * width + x] = from_float<T>(value);
        }
    }
    __device__ void flush(int, int, int, int) const {}
};

// A canvas among all: the number of its first tile, its sides, those of the image on it, and how the
// image is resampled; `first_tap` is the number of its first tap among all.
struct Level {
    int first_tile, canvas_height, canvas_width, height, width, first_tap, method;
    float scale;
};

// A tile of a canvas.
template <typename T>
__device__ void letterbox_block(const unsigned char* image, T* const* canvases,
                                const Level* levels, const Tap* taps, const float* table, int count,
                                int image_height, int image_width, int border, int fill) {
    FOVEATE_DYNAMIC_SHARED(unsigned char, shared);
    float* values = reinterpret_cast<float*>(shared);
    // Complete at the first barrier of make_tile.
    for (int i = threadIdx.x; i < 3 * 256; i += kTileThreads) values[i] = table[i];
    const int tile = blockIdx.x;
    int own = 0;
    while (own + 1 < count && tile >= levels[own + 1].first_tile) ++own;
    const Level level = levels[own];
    const Canvas<T> canvas{canvases[own], values, level.canvas_height, level.canvas_width};
    make_tile(
        image, image_height, image_width,
        {taps + level.first_tap, level.height, level.method, level.scale},
        {level.canvas_height, level.canvas_width, level.height, level.width, border, fill},
        tile - level.first_tile, taps_in(shared), shared + kStagedAt, canvas);
}

// Gathers a band of resized pixels in shared memory, and writes it by accesses of 16 bytes.
struct Bytes {
    unsigned char* resized;
    unsigned char* band;  // its rows keep their address modulo 16
    int width;

    // Bytes [first, last), counted from an address that is a multiple of 16 in both memories.
    struct Row {
        unsigned char *from, *to;
        int first, last;
    };

    __device__ Row row_of(int y, int left, int right) const {
        unsigned char* to = resized + 3 * (static_cast<long long>(y) * width + left);
        const int shift = behind(to, 0, 16);
        return {band + y % kBandRows * kBandRowBytes, to - shift, shift,
                shift + 3 * (right - left)};
    }
    __device__ void put(int y, int x, const Pack<3>& pixel) const {
        const Row row = row_of(y, x - x % kTileSide, x);
        unsigned char* to = row.from + row.last;
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            to[channel] = static_cast<unsigned char>(pixel.lane[channel]);
        }
    }
    __device__ void flush(int start, int end, int left, int right) const {
        // 16 bytes per thread; then the remainder at both ends of a row, one byte per thread.
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
                                    const Resampling& resampling, int image_height,
                                    int image_width, int height, int width) {
    FOVEATE_DYNAMIC_SHARED(unsigned char, shared);
    make_tile(image, image_height, image_width, resampling, {height, width, height, width, 0, 0},
              blockIdx.x, taps_in(shared), shared + kStagedAt, Bytes{resized, shared, width});
}

}  // namespace foveate

#define FOVEATE_LETTERBOX_KERNEL(suffix, T)                                                      \
    extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)    \
        foveate_letterbox_##suffix(                                                              \
            const unsigned char* __restrict__ image, T* const* __restrict__ canvases,            \
            const foveate::Level* __restrict__ levels, const foveate::Tap* __restrict__ taps,    \
            const float* __restrict__ table, int count, int image_height, int image_width,       \
            int border, int fill) {                                                              \
        foveate::letterbox_block<T>(image, canvases, levels, taps, table, count, image_height,   \
                                    image_width, border, fill);                                  \
    }

FOVEATE_LETTERBOX_KERNEL(f32, float)
FOVEATE_LETTERBOX_KERNEL(f16, foveate::Half)

#undef FOVEATE_LETTERBOX_KERNEL

extern "C" __global__ void __launch_bounds__(foveate::kTileThreads, foveate::kTileBlocks)
    foveate_resize(const unsigned char* __restrict__ image, unsigned char* __restrict__ resized,
                   const foveate::Tap* __restrict__ taps, int image_height, int image_width,
                   int height, int width, int method, float scale) {
    foveate::resize_block(image, resized, {taps, height, method, scale}, image_height, image_width,
                          height, width);
}

#endif
