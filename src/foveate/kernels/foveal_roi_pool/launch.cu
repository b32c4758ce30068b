// SPDX-License-Identifier: Apache-2.0
// Launcher of the pooling of foveal regions.
#include "foveal_roi_pool/foveal_roi_pool.cuh"

#include "device/launch.cuh"

// Pool the regions of every box from the maps that the towers read, and normalise each.
//   maps (map_count,) addresses of channel-last maps (height, width, channels) at multiples of 16
//   bytes; shapes (map_count, 3) int32 in device memory, and the same in host memory, from which
//   the launch is checked; map_scales (map_count,) float32, map pixels a picture pixel; boxes
//   (box_count, 4) float32 xyxy; scales (region_count,) float64 of the regions; pairs
//   (pair_count, 2) int32 region and map, in device and in host memory; results (pair_count,)
//   addresses of (box_count, rows, columns, channels) at multiples of 16 bytes; rounding: 0 caffe,
//   1 v2; normalisation: 0 none, 1 by the L2 norm, 2 by the root mean square; gain: factor of all.
extern "C" int foveate_launch_foveal_roi_pool(
    const void* maps, const int* shapes, const int* host_shapes, const float* map_scales,
    const float* boxes, const double* scales, const int* pairs, const int* host_pairs,
    const void* results, int map_count, int region_count, int box_count, int pair_count, int rows,
    int columns, int rounding, int normalisation, float gain, int type, cudaStream_t stream) {
    using namespace foveate;
    if (map_count < 0 || region_count < 0 || box_count < 0 || pair_count < 0 || rows < 0 ||
        columns < 0) {
        return kBadShape;
    }
    if (rounding < 0 || rounding > 1 || normalisation < 0 || normalisation > 2 || gain != gain) {
        return kBadOption;
    }
    if (type != kFloat32 && type != kFloat16) return kBadOption;
    if (box_count == 0 || pair_count == 0 || rows == 0 || columns == 0) return kOk;
    if (maps == nullptr || shapes == nullptr || host_shapes == nullptr || map_scales == nullptr ||
        boxes == nullptr || scales == nullptr || pairs == nullptr || host_pairs == nullptr ||
        results == nullptr) {
        return kNullPointer;
    }
    if (!is_aligned(maps, 8) || !is_aligned(results, 8) || !is_aligned(scales, 8) ||
        !is_aligned(shapes, 4) || !is_aligned(map_scales, 4) || !is_aligned(boxes, 4) ||
        !is_aligned(pairs, 4)) {
        return kMisaligned;
    }
    const int lanes = type == kFloat32 ? Wide<float>::lanes : Wide<Half>::lanes;
    const int kept = type == kFloat32 ? kKept<float> : kKept<Half>;
    const long long most = static_cast<long long>(kept) * kFovealPoolThreads * lanes;
    for (int pair = 0; pair < pair_count; ++pair) {
        const int region = host_pairs[2 * pair], map = host_pairs[2 * pair + 1];
        if (region < 0 || region >= region_count || map < 0 || map >= map_count) return kBadOption;
        const int* shape = host_shapes + kMapNumbers * map;
        if (shape[0] < 0 || shape[1] < 0 || shape[2] < 0 || shape[2] % lanes != 0) return kBadShape;
        const long long cells = static_cast<long long>(rows) * columns;
        if (cells > most || cells * shape[2] > most) return kTooLarge;
    }
    const long long blocks = static_cast<long long>(box_count) * pair_count;
    if (blocks > kMaxGridX) return kTooLarge;
    const dim3 grid(static_cast<unsigned>(blocks));
#define FOVEATE_START(suffix, T)                                                                 \
    FOVEATE_LAUNCH(foveate_foveal_roi_pool_##suffix, grid, dim3(kFovealPoolThreads), 0, stream,  \
                   static_cast<const T* const*>(maps), shapes, map_scales, boxes, scales, pairs, \
                   static_cast<T* const*>(results), box_count, pair_count, rows, columns,        \
                   rounding, normalisation, gain)
    return type == kFloat32 ? FOVEATE_START(f32, float) : FOVEATE_START(f16, Half);
#undef FOVEATE_START
}
