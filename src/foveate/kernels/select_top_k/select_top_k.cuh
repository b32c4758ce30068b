// SPDX-License-Identifier: Apache-2.0
// The K windows with the best scores of all levels, without those that a better one nearly covers.
//
// Kernels, in the order of their launch, for N cells of all levels:
//   foveate_select_order_f32, _f16  block (256), grid (ceil(N / 256)), 1,024 bytes of static shared
//                                   memory
//   foveate_select_scan_f32, _f16   block (256), grid (1), 4 bytes of static shared memory
// Dependent passes of the scan: 8 for every 256 cells of the order, until K windows are found.
// Bound by the N * N comparisons of the order.
#ifndef FOVEATE_SELECT_TOP_K_CUH
#define FOVEATE_SELECT_TOP_K_CUH

#include "device/pack.cuh"
#include "nms/greedy.cuh"

namespace foveate {

// Where a cell lies: its level, and its row and column there.
struct Cell {
    int level, row, column;
};

// The cells of all levels, in the order of level, row and column.
template <typename T>
struct Cells {
    const T* const* grids;  // objectness logits, one (rows, columns) per level
    const int* shapes;      // rows and columns per level
    const int* starts;      // (levels + 1,): the numbers of the levels' first cells
    int levels;

    FOVEATE_BOTH Cell at(int index) const {
        int level = 0;
        while (level + 1 < levels && index >= starts[level + 1]) ++level;
        const int columns = shapes[2 * level + 1], place = index - starts[level];
        const int row = place / columns;
        return {level, row, place - row * columns};
    }

    FOVEATE_BOTH float score(int index) const {
        const Cell cell = at(index);
        return to_float(grids[cell.level][index - starts[cell.level]]);
    }
};

// The windows of cells in the image frame. `factors` are image pixels per level pixel, horizontal
// and vertical, per level.
struct Windows {
    const double* factors;
    int size, stride, padding;

    // x0, y0, width, height
    FOVEATE_BOTH Pack<4> of(const Cell& cell) const {
        const double horizontal = factors[2 * cell.level], vertical = factors[2 * cell.level + 1];
        const double left = cell.column * stride - padding, top = cell.row * stride - padding;
        const double side = size;
        return {{static_cast<float>(mul(left, horizontal)), static_cast<float>(mul(top, vertical)),
                 static_cast<float>(mul(side, horizontal)),
                 static_cast<float>(mul(side, vertical))}};
    }
};

FOVEATE_BOTH Box box_of(const Pack<4>& window) {
    const float x0 = window.lane[0], y0 = window.lane[1];
    return {x0, y0, add(x0, window.lane[2]), add(y0, window.lane[3])};
}

template <typename T>
__device__ void select_order_block(const Cells<T>& cells, int* order, int count) {
    const auto key_of = [&cells](int index) { return score_key(cells.score(index)); };
    const int first = blockIdx.x * kRankThreads;
    find_order(key_of, count, first, smaller(first + kRankThreads, count), order);
}

// Results, with room for K = `capacity` windows: see cpu.py.
struct Selection {
    int* indices;
    float* windows;
    float* scores;
    int* count;
    int capacity;
};

// `winners` (limit,) and `boxes` (limit,) are scratch memory.
template <typename T>
__device__ void select_scan_block(const Cells<T>& cells, const Windows& windows, const int* order,
                                  int* winners, Box* boxes, const Selection& selection, int count,
                                  int limit, double iou) {
    const auto box_at_cell = [&](int index) { return box_of(windows.of(cells.at(index))); };
    const int total = choose_boxes(box_at_cell, order, count, limit, iou, winners, boxes);
    for (int i = threadIdx.x; i < selection.capacity; i += kRankThreads) {
        const bool exists = i < total;
        const Cell cell = exists ? cells.at(winners[i]) : Cell{-1, 0, 0};
        selection.indices[3LL * i] = cell.level;
        selection.indices[3LL * i + 1] = cell.row;
        selection.indices[3LL * i + 2] = cell.column;
        const Pack<4> window = exists ? windows.of(cell) : Pack<4>{{0.0f, 0.0f, 0.0f, 0.0f}};
        Access<float, 4>::store(selection.windows + 4LL * i, window);
        selection.scores[i] = exists ? cells.score(winners[i]) : negative_infinity();
    }
    if (threadIdx.x == 0) selection.count[0] = total;
}

}  // namespace foveate

#define FOVEATE_SELECT_KERNELS(suffix, T)                                                         \
    extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)                           \
        foveate_select_order_##suffix(const T* const* __restrict__ grids,                         \
                                      const int* __restrict__ shapes,                             \
                                      const int* __restrict__ starts, int* __restrict__ order,    \
                                      int levels, int count) {                                    \
        foveate::select_order_block<T>({grids, shapes, starts, levels}, order, count);            \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)                           \
        foveate_select_scan_##suffix(                                                             \
            const T* const* __restrict__ grids, const int* __restrict__ shapes,                   \
            const int* __restrict__ starts, const double* __restrict__ factors,                   \
            const int* __restrict__ order, int* __restrict__ winners,                             \
            foveate::Box* __restrict__ boxes, int* __restrict__ indices,                          \
            float* __restrict__ windows, float* __restrict__ scores, int* __restrict__ found,     \
            int levels, int count, int limit, int capacity, int size, int stride, int padding,    \
            double iou) {                                                                         \
        foveate::select_scan_block<T>({grids, shapes, starts, levels},                            \
                                      {factors, size, stride, padding}, order, winners, boxes,    \
                                      {indices, windows, scores, found, capacity}, count, limit,  \
                                      iou);                                                       \
    }

FOVEATE_SELECT_KERNELS(f32, float)
FOVEATE_SELECT_KERNELS(f16, foveate::Half)

#undef FOVEATE_SELECT_KERNELS

#endif
