// SPDX-License-Identifier: Apache-2.0
// The K windows with the best scores of all levels, without those that a better one nearly covers.
//
// Kernels, in the order of their launch, for N cells of all levels:
//   foveate_select_cells   block (256), grid (ceil(N / 256)): keys and candidates of the cells
//   foveate_select_order   block (256), grid (ceil(N / 256)), 1,024 bytes of static shared memory
//   foveate_select_scan    block (256), grid (1), 4 bytes of static and 20 * K of dynamic shared
//                          memory
// Dependent passes of the scan: none with an IoU of 1 or more; otherwise 8 for every 256 cells of
// the order, until K windows are found. Bound by the N * N comparisons of the order.
#ifndef FOVEATE_SELECT_TOP_K_CUH
#define FOVEATE_SELECT_TOP_K_CUH

#include "device/stage.cuh"
#include "nms/greedy.cuh"

namespace foveate {

// Where a cell lies: its level, and its row and column there.
struct Cell {
    int level, row, column;
};

// The cell with number `index`. `starts` (levels + 1,) are the numbers of the levels' first cells.
FOVEATE_BOTH Cell cell_at(int index, const int* starts, const int* shapes, int levels) {
    int level = 0;
    while (level + 1 < levels && index >= starts[level + 1]) ++level;
    const int columns = shapes[2 * level + 1], at = index - starts[level];
    const int row = at / columns;
    return {level, row, at - row * columns};
}

FOVEATE_BOTH float cell_score(const Cell& cell, const float* const* grids, const int* shapes) {
    return grids[cell.level]
                [static_cast<long long>(cell.row) * shapes[2 * cell.level + 1] + cell.column];
}

// Key and window of a cell. `candidates` (N, 4) are x0, y0, width, height in the image frame.
FOVEATE_BOTH void cell_item(int index, const float* const* grids, const int* shapes,
                            const int* starts, const double* factors, unsigned* keys,
                            float* candidates, int levels, int cells, int size, int stride,
                            int padding) {
    if (index >= cells) return;
    const Cell cell = cell_at(index, starts, shapes, levels);
    const double horizontal = factors[2 * cell.level], vertical = factors[2 * cell.level + 1];
    const double left = cell.column * stride - padding, top = cell.row * stride - padding;
    const float x0 = static_cast<float>(mul(left, horizontal));
    const float y0 = static_cast<float>(mul(top, vertical));
    const float width = static_cast<float>(mul(static_cast<double>(size), horizontal));
    const float height = static_cast<float>(mul(static_cast<double>(size), vertical));
    float* window = candidates + 4LL * index;
    window[0] = x0;
    window[1] = y0;
    window[2] = width;
    window[3] = height;
    const unsigned key = score_key(cell_score(cell, grids, shapes));
    const bool solid = has_area({x0, y0, add(x0, width), add(y0, height)});
    keys[index] = !solid ? 0u : key == 0u ? 1u : key;
}

FOVEATE_BOTH Box window_box(const float* candidates, int index) {
    const float* window = candidates + 4LL * index;
    return {window[0], window[1], add(window[0], window[2]), add(window[1], window[3])};
}

// Write the first candidates of the order that do not cover each other: their numbers to `winners`,
// and their boxes to `boxes`. Every thread returns their count. The warps take turns: one decides
// among its 32 candidates, then the later ones compare theirs with the new winners.
__device__ inline int greedy(const int* order, const float* candidates, int cells, int limit,
                             double iou, int* winners, Box* boxes, int* found) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    int total = 0;
    for (int start = 0; start < cells && total < limit && order[start] >= 0;
         start += kRankThreads) {
        const int at = start + threadIdx.x;
        const int own = at < cells ? order[at] : -1;
        const Box box = own >= 0 ? window_box(candidates, own) : Box{0.0f, 0.0f, 0.0f, 0.0f};
        bool alive = own >= 0;
        for (int i = 0; i < total && alive; ++i) alive = !covers(boxes[i], box, iou);
        for (int turn = 0; turn < kRankThreads / 32; ++turn) {
            int fresh = total;
            if (warp == turn) {
                unsigned living = __ballot_sync(0xffffffffu, alive);
                while (living != 0u && fresh < limit) {
                    if (lane == __ffs(static_cast<int>(living)) - 1) {
                        winners[fresh] = own;
                        boxes[fresh] = box;
                        alive = false;
                    }
                    __syncwarp();
                    if (alive) alive = !covers(boxes[fresh], box, iou);
                    ++fresh;
                    living = __ballot_sync(0xffffffffu, alive);
                }
                if (lane == 0) *found = fresh;
            }
            __syncthreads();
            fresh = *found;
            if (warp > turn) {
                for (int i = total; i < fresh && alive; ++i) alive = !covers(boxes[i], box, iou);
            }
            total = fresh;
            __syncthreads();
        }
    }
    return total;
}

__device__ inline void select_scan_block(const float* const* grids, const int* shapes,
                                         const int* starts, const int* order,
                                         const float* candidates, int* indices, float* windows,
                                         float* scores, int* count, int levels, int cells,
                                         int limit, double iou) {
    FOVEATE_DYNAMIC_SHARED(Box, boxes);
    int* const winners = reinterpret_cast<int*>(boxes + limit);
    __shared__ int found;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    int total = 0;
    if (iou < 1.0) {
        total = greedy(order, candidates, cells, limit, iou, winners, boxes, &found);
    } else {
        for (int i = threadIdx.x; i < smaller(limit, cells); i += kRankThreads) {
            winners[i] = order[i];
            if (order[i] >= 0) atomicAdd(&found, 1);
        }
        __syncthreads();
        total = found;
    }
    for (int i = threadIdx.x; i < limit; i += kRankThreads) {
        const bool exists = i < total;
        const Cell cell = exists ? cell_at(winners[i], starts, shapes, levels) : Cell{-1, 0, 0};
        indices[3LL * i] = cell.level;
        indices[3LL * i + 1] = cell.row;
        indices[3LL * i + 2] = cell.column;
        for (int j = 0; j < 4; ++j) {
            windows[4LL * i + j] = exists ? candidates[4LL * winners[i] + j] : 0.0f;
        }
        scores[i] = exists ? cell_score(cell, grids, shapes) : negative_infinity();
    }
    if (threadIdx.x == 0) count[0] = total;
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_select_cells(const float* const* __restrict__ grids, const int* __restrict__ shapes,
                         const int* __restrict__ starts, const double* __restrict__ factors,
                         unsigned* __restrict__ keys, float* __restrict__ candidates, int levels,
                         int cells, int size, int stride, int padding) {
    foveate::cell_item(blockIdx.x * foveate::kRankThreads + threadIdx.x, grids, shapes, starts,
                       factors, keys, candidates, levels, cells, size, stride, padding);
}

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_select_order(const unsigned* __restrict__ keys, int* __restrict__ order, int cells) {
    foveate::order_block(keys, order, cells);
}

extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)
    foveate_select_scan(const float* const* __restrict__ grids, const int* __restrict__ shapes,
                        const int* __restrict__ starts, const int* __restrict__ order,
                        const float* __restrict__ candidates, int* __restrict__ indices,
                        float* __restrict__ windows, float* __restrict__ scores,
                        int* __restrict__ count, int levels, int cells, int limit, double iou) {
    foveate::select_scan_block(grids, shapes, starts, order, candidates, indices, windows, scores,
                               count, levels, cells, limit, iou);
}

#endif
