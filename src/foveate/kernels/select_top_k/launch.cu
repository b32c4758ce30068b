// SPDX-License-Identifier: Apache-2.0
// Launcher of the selection of windows.
#include "select_top_k/select_top_k.cuh"

#include "device/launch.cuh"

namespace foveate {

constexpr int kMostCells = 65536;
constexpr int kMostWindows = 2048;

}  // namespace foveate

// Bytes of the scratch array of foveate_launch_select_top_k: keys, order, windows.
extern "C" long long foveate_select_top_k_scratch_bytes(int cells) {
    return cells <= 0 ? 0 : 24LL * cells;
}

// Keep the `limit` windows with the best scores; equal scores in the order of level, row, column.
//   grids (levels,) addresses of float32 scores (Gh, Gw); shapes (levels, 2) int32 Gh and Gw;
//   starts (levels + 1,) int32 number of each level's first cell, the last is `cells`;
//   factors (levels, 2) float64, image pixels a level pixel, horizontal and vertical;
//   picks (limit, 3) int32 level, row, column, -1, 0, 0 after the end; geometry (limit, 4) float32
//   x0, y0, width, height, zeros after the end; scores (limit,), -inf after the end; count (1,);
//   scratch: see above. A window is dropped if its intersection over union with a better one is
//   larger than `iou`, from 0; 1 and more keep all. A NaN comes after all other scores.
extern "C" int foveate_launch_select_top_k(const void* grids, const int* shapes, const int* starts,
                                           const double* factors, int* picks, float* geometry,
                                           float* scores, int* count, unsigned* scratch, int levels,
                                           int cells, int limit, int size, int stride, int padding,
                                           double iou, cudaStream_t stream) {
    using namespace foveate;
    if (levels < 0 || cells < 0 || limit < 0 || (cells > 0 && levels == 0)) return kBadShape;
    if (!(iou >= 0.0) || size < 0 || stride < 0) return kBadOption;
    if (count == nullptr) return kNullPointer;
    if (limit > 0 && (picks == nullptr || geometry == nullptr || scores == nullptr)) {
        return kNullPointer;
    }
    if (cells > 0 && (grids == nullptr || shapes == nullptr || starts == nullptr ||
                      factors == nullptr || scratch == nullptr)) {
        return kNullPointer;
    }
    if (!is_aligned(grids, 8) || !is_aligned(shapes, 4) || !is_aligned(starts, 4) ||
        !is_aligned(factors, 8) || !is_aligned(picks, 4) || !is_aligned(geometry, 4) ||
        !is_aligned(scores, 4) || !is_aligned(count, 4) || !is_aligned(scratch, 4)) {
        return kMisaligned;
    }
    if (cells > kMostCells || limit > kMostWindows || stride > 32767) return kTooLarge;
    unsigned* keys = scratch;
    int* order = scratch == nullptr ? nullptr : reinterpret_cast<int*>(scratch + cells);
    float* windows = scratch == nullptr ? nullptr : reinterpret_cast<float*>(scratch + 2 * cells);
    const float* const* levels_scores = static_cast<const float* const*>(grids);
    if (cells > 0) {
        const dim3 grid(static_cast<unsigned>(ceil_div(cells, kRankThreads)));
        int status = FOVEATE_LAUNCH(foveate_select_cells, grid, dim3(kRankThreads), 0, stream,
                                    levels_scores, shapes, starts, factors, keys, windows, levels,
                                    cells, size, stride, padding);
        if (status != kOk) return status;
        status = FOVEATE_LAUNCH(foveate_select_order, grid, dim3(kRankThreads), 0, stream, keys,
                                order, cells);
        if (status != kOk) return status;
    }
    return FOVEATE_LAUNCH(foveate_select_scan, dim3(1), dim3(kRankThreads),
                          static_cast<unsigned>(20 * limit), stream, levels_scores, shapes, starts,
                          order, windows, picks, geometry, scores, count, levels, cells, limit,
                          iou);
}
