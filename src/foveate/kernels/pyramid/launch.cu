// SPDX-License-Identifier: Apache-2.0
// Launchers of the pyramid.
#include "pyramid/pyramid.cuh"

#include "device/launch.cuh"

namespace foveate {

constexpr int kLongestSide = 16384;
constexpr int kTileBytes = kHeadBytes + kStageBytes;

inline bool is_too_long(int side) { return side > kLongestSide; }

}  // namespace foveate

// Lay the image on the canvases of all levels.
//   image (image_height, image_width, 3) uint8; canvases (levels,) addresses of (3, canvas
//   height, canvas width) float32 or float16; plan (levels, 6) int32 canvas height, canvas width,
//   height and width of the image on the canvas, row and column of its first pixel there, number
//   of the level's first block; table (3, 256) float32, the normalised value of each byte; blocks:
//   of all levels; fill: byte around the image; resampling: see pyramid.cuh; to_bytes: 1 to round
//   the resampled image to bytes, as host.py does. The plan is device memory: the caller answers
//   for sides of 1 to 16384.
extern "C" int foveate_launch_pyramid_place(const unsigned char* image, const void* canvases,
                                            const int* plan, const float* table, int image_height,
                                            int image_width, int levels, int blocks,
                                            int resampling, int to_bytes, int fill, int type,
                                            cudaStream_t stream) {
    using namespace foveate;
    if (image_height < 0 || image_width < 0 || levels < 0 || blocks < 0) return kBadShape;
    if (resampling < 0 || resampling > 1 || to_bytes < 0 || to_bytes > 1) return kBadOption;
    if (fill < 0 || fill > 255 || (type != kFloat32 && type != kFloat16)) return kBadOption;
    if (levels == 0 || blocks == 0) return kOk;
    if (image_height == 0 || image_width == 0) return kBadShape;  // nothing to resample
    if (image == nullptr || canvases == nullptr || plan == nullptr || table == nullptr) {
        return kNullPointer;
    }
    if (!is_aligned(canvases, 8) || !is_aligned(plan, 4) || !is_aligned(table, 4)) {
        return kMisaligned;
    }
    if (is_too_long(image_height) || is_too_long(image_width)) return kTooLarge;
    const dim3 grid(static_cast<unsigned>(blocks));
#define FOVEATE_START(suffix, T)                                                                 \
    FOVEATE_LAUNCH(foveate_pyramid_place_##suffix, grid, dim3(kTileThreads), kTileBytes, stream, \
                   image, static_cast<T* const*>(canvases), plan, table, image_height,       \
                   image_width, levels, blocks, resampling, to_bytes, fill)
    return type == kFloat32 ? FOVEATE_START(f32, float) : FOVEATE_START(f16, Half);
#undef FOVEATE_START
}

// Resize an image (image_height, image_width, 3) to (height, width, 3), both uint8.
extern "C" int foveate_launch_pyramid_resize(const unsigned char* image, unsigned char* resized,
                                             int image_height, int image_width, int height,
                                             int width, int resampling, cudaStream_t stream) {
    using namespace foveate;
    if (image_height < 0 || image_width < 0 || height < 0 || width < 0) return kBadShape;
    if (resampling < 0 || resampling > 1) return kBadOption;
    if (height == 0 || width == 0) return kOk;
    if (image_height == 0 || image_width == 0) return kBadShape;
    if (image == nullptr || resized == nullptr) return kNullPointer;
    if (is_too_long(image_height) || is_too_long(image_width) || is_too_long(height) ||
        is_too_long(width)) {
        return kTooLarge;
    }
    const int blocks = ceil_div(width, kTileSide) * ceil_div(height, kTileSide);
    return FOVEATE_LAUNCH(foveate_pyramid_resize, dim3(static_cast<unsigned>(blocks)),
                          dim3(kTileThreads), kTileBytes, stream, image, resized, image_height,
                          image_width, height, width, resampling);
}
