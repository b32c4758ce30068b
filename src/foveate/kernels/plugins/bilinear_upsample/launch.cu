// SPDX-License-Identifier: Apache-2.0
// Launchers of the kernels in map.cuh and of those in mask_boxes.cuh. They allocate nothing and do
// not synchronize.
#include "plugins/bilinear_upsample/launch.h"
#include "plugins/bilinear_upsample/map.cuh"
#include "mask_boxes/mask_boxes.cuh"

#include "plugins/launch.cuh"

namespace foveate {

constexpr int kMapOutputs = 2048;       // of a block, approximately
constexpr int kMapSharedBytes = 40960;  // of a block, at most
constexpr int kPasteStageSize = 352;    // largest size of logits that are staged

// Division of a map among blocks.
struct MapBands {
    int band_rows;   // rows of output per block
    int stage_rows;  // rows of input in shared memory; 0 if they are read directly
    int shared_bytes;
};

inline MapBands map_bands(int height, int width, int out_height, int out_width) {
    // A multiple of 8 keeps each band's start aligned for the widest access.
    const int band =
        clamp(ceil_div(kMapOutputs / out_width, 8) * 8, 8, ceil_div(out_height, 8) * 8);
    const int tables = 8 * (out_width + band);
    const long long rows =
        smaller(height, static_cast<int>(static_cast<long long>(band) * height / out_height) + 3);
    const long long bytes = 4 * rows * width + tables;
    if (bytes > kMapSharedBytes) return {band, 0, tables};
    return {band, static_cast<int>(rows), static_cast<int>(bytes)};
}

inline int paste_stage(int size) { return size <= kPasteStageSize ? kPasteStage : 0; }

}  // namespace foveate

// Return the bytes of the scratch array of foveate_launch_paste_windows.
extern "C" long long foveate_paste_windows_scratch_bytes(int windows, int height) {
    using namespace foveate;
    if (windows <= 0 || height <= 0) return 0;
    const long long bands = (static_cast<long long>(height) + kPasteBand - 1) / kPasteBand;
    return bands * windows * kPartials * 4;
}

// Paste the masks of windows into the image.
//   logits (windows, size, size); geometry (windows, 4) float32 x0, y0, width, height;
//   columns (1,) int64, the width of the image, at most `width`, or null if it is `width`;
//   bits (windows, height, ceil(width / 32)) int32, bit i of word w is pixel 32 * w + i, or null;
//   areas (windows,) int32, or null; boxes (windows, 4) float32 xyxy, or null; scratch: see above.
extern "C" int foveate_launch_paste_windows(const void* logits, const float* geometry,
                                            const long long* columns, int* bits, int* areas,
                                            float* boxes, int* scratch, int windows, int size,
                                            int height, int width, float threshold, int type,
                                            cudaStream_t stream) {
    using namespace foveate;
    if (windows < 0 || size < 0 || height < 0 || width < 0) return kBadShape;
    if (threshold != threshold) return kBadOption;
    if (type != kFloat32 && type != kFloat16) return kBadOption;
    if (windows == 0) return kOk;
    if (size == 0) return kBadShape;
    if (size > 1024 || height > (1 << 18) || width > (1 << 18) || windows > kMaxGridY) {
        return kTooLarge;
    }
    if (static_cast<long long>(height) * width > 2147483647LL) return kTooLarge;  // areas are int32
    const int bands = width == 0 ? 0 : ceil_div(height, kPasteBand);
    if (bands > 0 && (logits == nullptr || geometry == nullptr || scratch == nullptr)) {
        return kNullPointer;
    }
    if (!is_aligned(logits, type == kFloat32 ? 4 : 2) || !is_aligned(geometry, 4) ||
        !is_aligned(columns, 8) || !is_aligned(bits, 4) || !is_aligned(areas, 4) ||
        !is_aligned(boxes, 4) || !is_aligned(scratch, 4)) {
        return kMisaligned;
    }
    if (bands > 0) {
        const dim3 grid(static_cast<unsigned>(bands), static_cast<unsigned>(windows));
        const int stage = paste_stage(size);
        const int* const count = nullptr;  // every window exists
        const unsigned shared_bytes = static_cast<unsigned>(4 * stage * size);
        int status = kOk;
        if (type == kFloat32) {
            status =
                FOVEATE_LAUNCH(foveate_paste_windows_f32, grid, dim3(kPasteThreads), shared_bytes,
                               stream, static_cast<const float*>(logits), geometry, count, columns,
                               bits, scratch, windows, size, height, width, threshold, stage);
        } else {
            status =
                FOVEATE_LAUNCH(foveate_paste_windows_f16, grid, dim3(kPasteThreads), shared_bytes,
                               stream, static_cast<const Half*>(logits), geometry, count, columns,
                               bits, scratch, windows, size, height, width, threshold, stage);
        }
        if (status != kOk) return status;
    }
    if (areas == nullptr && boxes == nullptr) return kOk;
    return FOVEATE_LAUNCH(foveate_paste_boxes,
                          dim3(static_cast<unsigned>(ceil_div(windows, kBoxThreads))),
                          dim3(kBoxThreads), 0, stream, scratch, areas, boxes, windows, bands);
}

// Upsample maps: output = up(input), or up(relu(input + second)).
//   input (count, channels, height, width); second: as input, or null;
//   output (count, channels, out_height, out_width);
//   align_corners: 1 for corners, 0 for half-pixel; relu: 1 to replace negative sums by 0.
extern "C" int foveate_launch_upsample_map(const void* input, const void* second, void* output,
                                           int count, int channels, int height, int width,
                                           int out_height, int out_width, int align_corners,
                                           int relu, int type, cudaStream_t stream) {
    using namespace foveate;
    if (count < 0 || channels < 0 || height < 0 || width < 0 || out_height < 0 || out_width < 0) {
        return kBadShape;
    }
    if (align_corners < 0 || align_corners > 1 || relu < 0 || relu > 1) return kBadOption;
    if (type != kFloat32 && type != kFloat16) return kBadOption;
    if (count == 0 || channels == 0 || out_height == 0 || out_width == 0) return kOk;
    if (height == 0 || width == 0) return kBadShape;  // no sample to interpolate
    if (input == nullptr || output == nullptr) return kNullPointer;
    const int bytes = type == kFloat32 ? 4 : 2;
    if (!is_aligned(input, bytes) || !is_aligned(second, bytes) || !is_aligned(output, bytes)) {
        return kMisaligned;
    }
    const long long limit = 2147483647LL;
    if (out_width > kMaxMapWidth || (2LL * out_height + 1) * height > limit ||
        (2LL * out_width + 1) * width > limit || static_cast<long long>(height) * width > limit ||
        static_cast<long long>(out_height) * out_width > limit) {
        return kTooLarge;
    }
    const MapBands bands = map_bands(height, width, out_height, out_width);
    const long long planes = static_cast<long long>(count) * channels;
    if (planes > kMaxGridX || planes * ceil_div(out_height, bands.band_rows) > kMaxGridX)
        return kTooLarge;
    const dim3 grid(static_cast<unsigned>(planes * ceil_div(out_height, bands.band_rows)));
    const unsigned shared_bytes = static_cast<unsigned>(bands.shared_bytes);
    const int widest = type == kFloat32 ? Wide<float>::lanes : Wide<Half>::lanes;
    const bool wide = out_height * out_width % widest == 0 && is_aligned(output, 16);
#define FOVEATE_START(suffix, T)                                                                 \
    FOVEATE_LAUNCH(foveate_upsample_map_##suffix, grid, dim3(kMapThreads), shared_bytes, stream, \
                   static_cast<const T*>(input), static_cast<const T*>(second),                  \
                   static_cast<T*>(output), static_cast<int>(planes), height, width, out_height, \
                   out_width, align_corners, relu, bands.band_rows, bands.stage_rows)
    if (type == kFloat32) return wide ? FOVEATE_START(f32x4, float) : FOVEATE_START(f32x1, float);
    return wide ? FOVEATE_START(f16x8, Half) : FOVEATE_START(f16x1, Half);
#undef FOVEATE_START
}
