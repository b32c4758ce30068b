// SPDX-License-Identifier: Apache-2.0
// Windows mode of bilinear upsampling: every window's logits are resampled to the window's own size
// in the image, compared with a threshold, clipped, and written as bits; no float mask exists.
//
// Bound by memory traffic. The logits are read once (each band reads up to two rows of logits
// again), and each word of bits is written once. Rows of logits are staged in shared memory, a warp
// makes 32 pixels at a time, and each of its lanes keeps a word, so that stores are contiguous.
//
// Kernels, in the order of their launch:
//   foveate_paste_windows_f32, _f16  block (256), grid (ceil(height / 64), windows), 20 bytes of
//                                    static and 4 * size * stage_rows of dynamic shared memory,
//                                    where stage_rows is 34 for size <= 352, otherwise 0
//   foveate_paste_boxes              block (128), grid (ceil(windows / 128)); reduces the partials
//
// As in window_mask.py and reference.py, edges of a window are rounded to the nearest pixel
// boundary; an axis that grows is blended between pixel centers, one that shrinks is averaged over
// areas. A window of width 0, with a number that is not finite, or with an edge beyond 2^18 has an
// empty mask.
#ifndef FOVEATE_MASK_BOXES_CUH
#define FOVEATE_MASK_BOXES_CUH

#include "device/blend.cuh"
#include "device/stage.cuh"

namespace foveate {

constexpr int kPasteThreads = 256;
constexpr int kPasteBlocks = 3;  // per multiprocessor; with more, some compilers spill registers
constexpr int kPasteBand = 64;
constexpr int kPasteStage = 34;  // rows of logits that are staged together
constexpr int kBoxThreads = 128;
constexpr int kPartials = 5;  // area, left, top, right, bottom
constexpr double kFarthestEdge = 262144.0;

struct Window {
    int left, top, width, height;  // in whole pixels; width 0 for an empty window
};

// Return the pixels of a window; `geometry` is x0, y0, width, height, and a width of 0 marks
// padding.
FOVEATE_BOTH Window window_of(const float* geometry) {
    const double x0 = geometry[0], y0 = geometry[1], width = geometry[2], height = geometry[3];
    const double left = floor(add(x0, 0.5)), top = floor(add(y0, 0.5));
    const double right = floor(add(add(x0, width), 0.5));
    const double bottom = floor(add(add(y0, height), 0.5));
    const bool valid = geometry[2] != 0.0f && left >= -kFarthestEdge && left <= kFarthestEdge &&
                       top >= -kFarthestEdge && top <= kFarthestEdge && right >= -kFarthestEdge &&
                       right <= kFarthestEdge && bottom >= -kFarthestEdge &&
                       bottom <= kFarthestEdge;
    if (!valid) return {0, 0, 0, 0};
    const int x = static_cast<int>(left), y = static_cast<int>(top);
    return {x, y, larger(static_cast<int>(right) - x, 1), larger(static_cast<int>(bottom) - y, 1)};
}

// Rows of `size` logits that the window's rows [first, last) need.
FOVEATE_BOTH Cover needed_rows(int first, int last, int size, int length) {
    if (length >= size) {
        return {half_pixel_blend(first, size, length).first,
                half_pixel_blend(last - 1, size, length).second + 1, 0, 0};
    }
    return {cover_at(first, size, length).first, cover_at(last - 1, size, length).last, 0, 0};
}

// One sample of a row of logits, resampled to `width` columns.
template <typename T>
FOVEATE_BOTH float sample_row(const T* row, const Blend& blend, const Cover& cover, int size,
                              int width) {
    if (width >= size) {
        return mix(to_float(row[blend.first]), to_float(row[blend.second]), blend.share);
    }
    float sum = 0.0f;
    for (int x = cover.first; x < cover.last; ++x) {
        sum = add(sum, mul(static_cast<float>(covered(cover, x, width)), to_float(row[x])));
    }
    return divide(sum, static_cast<float>(size));
}

// The resampled logit of pixel (row, column) of a window. `logits` starts at row `base`.
template <typename T>
FOVEATE_BOTH float window_logit(const T* logits, int base, int size, const Window& window, int row,
                                int column) {
    const bool wide = window.width >= size;
    const Blend x = wide ? half_pixel_blend(column, size, window.width) : Blend{0, 0, 0.0f};
    const Cover span = wide ? Cover{0, 0, 0, 0} : cover_at(column, size, window.width);
    if (window.height >= size) {
        const Blend y = half_pixel_blend(row, size, window.height);
        return mix(sample_row(logits + (y.first - base) * size, x, span, size, window.width),
                   sample_row(logits + (y.second - base) * size, x, span, size, window.width),
                   y.share);
    }
    const Cover y = cover_at(row, size, window.height);
    float sum = 0.0f;
    for (int at = y.first; at < y.last; ++at) {
        const float value = sample_row(logits + (at - base) * size, x, span, size, window.width);
        sum = add(sum, mul(static_cast<float>(covered(y, at, window.height)), value));
    }
    return divide(sum, static_cast<float>(size));
}

// The part of the mask that a thread has made.
struct Extent {
    int area, left, top, right, bottom;
};

FOVEATE_BOTH Extent no_extent() { return {0, 2147483647, 2147483647, -1, -1}; }

// Add 32 pixels, the first of them at column 32 * word.
__device__ __forceinline__ void extend(Extent& extent, unsigned bits, int word, int row) {
    if (bits == 0u) return;
    extent.area += __popc(bits);
    extent.left = smaller(extent.left, 32 * word + __ffs(static_cast<int>(bits)) - 1);
    extent.right = larger(extent.right, 32 * word + 32 - __clz(static_cast<int>(bits)));
    extent.top = smaller(extent.top, row);
    extent.bottom = larger(extent.bottom, row + 1);
}

// The width of the image, at most `width`; `columns` points to it, or is null if it is `width`.
FOVEATE_BOTH int existing_columns(const long long* columns, int width) {
    if (columns == nullptr || columns[0] > width) return width;
    return columns[0] < 0 ? 0 : static_cast<int>(columns[0]);
}

// The part of a window that lies in a band of the image.
struct View {
    int left, right, top, bottom;
};

FOVEATE_BOTH View view_of(const Window& window, int band_top, int band_bottom, int width) {
    const int left = clamp(window.left, 0, width);
    const int right = clamp(window.left + window.width, 0, width);
    const int top = clamp(window.top, band_top, band_bottom);
    const int bottom = clamp(window.top + window.height, band_top, band_bottom);
    if (right <= left || bottom <= top) return {0, 0, band_bottom, band_bottom};
    return {left, right, top, bottom};
}

// One row of the image, by one warp. `bits` is the row's first word, or null.
template <typename T>
__device__ void paste_row(const T* logits, int base, int size, const Window& window,
                          const View& view, int row, int width, float threshold, int* bits,
                          Extent& extent) {
    const int lane = threadIdx.x & 31, words = ceil_div(width, 32);
    const int first = view.left / 32, last = ceil_div(view.right, 32);
    for (int chunk = 0; chunk < words; chunk += 32) {
        unsigned mine = 0u;
        for (int word = larger(chunk, first); word < smaller(chunk + 32, last); ++word) {
            const int x = 32 * word + lane;
            const bool inside = x >= view.left && x < view.right;
            const bool on = inside && window_logit(logits, base, size, window, row - window.top,
                                                   x - window.left) > threshold;
            const unsigned ballot = __ballot_sync(0xffffffffu, on);
            if (lane == word - chunk) mine = ballot;
        }
        if (bits != nullptr && chunk + lane < words) bits[chunk + lane] = static_cast<int>(mine);
        extend(extent, mine, chunk + lane, row);
    }
}

__device__ inline void clear_words(int* words, int count) {
    for (int i = threadIdx.x; i < count; i += kPasteThreads) words[i] = 0;
}

// Reduce the extents of the threads of a block to `partial`.
__device__ inline void reduce_extent(const Extent& extent, int* partial) {
    __shared__ int all[kPartials];
    const Extent none = no_extent();
    if (threadIdx.x == 0) {
        all[0] = none.area;
        all[1] = none.left;
        all[2] = none.top;
        all[3] = none.right;
        all[4] = none.bottom;
    }
    __syncthreads();
    if (extent.area > 0) {
        atomicAdd(&all[0], extent.area);
        atomicMin(&all[1], extent.left);
        atomicMin(&all[2], extent.top);
        atomicMax(&all[3], extent.right);
        atomicMax(&all[4], extent.bottom);
    }
    __syncthreads();
    if (threadIdx.x < kPartials) partial[threadIdx.x] = all[threadIdx.x];
}

// A band of 64 rows of the image, for one window.
template <typename T>
__device__ void paste_block(const T* logits, const float* geometry, const int* count,
                            const long long* columns, int* bits, int* partials, int size,
                            int height, int width, float threshold, int stage_rows) {
    FOVEATE_DYNAMIC_SHARED(float, staged);
    const int k = blockIdx.y, band = blockIdx.x, words = ceil_div(width, 32);
    const int band_top = band * kPasteBand, band_bottom = smaller(band_top + kPasteBand, height);
    const bool exists = count == nullptr || k < count[0];
    const Window window = exists ? window_of(geometry + 4LL * k) : Window{0, 0, 0, 0};
    const View view = view_of(window, band_top, band_bottom, existing_columns(columns, width));
    const T* mine = logits + static_cast<long long>(k) * size * size;
    int* mask = bits == nullptr ? nullptr : bits + static_cast<long long>(k) * height * words;
    if (mask != nullptr) {
        clear_words(mask + static_cast<long long>(band_top) * words, (view.top - band_top) * words);
        clear_words(mask + static_cast<long long>(view.bottom) * words,
                    (band_bottom - view.bottom) * words);
    }
    Extent extent = no_extent();
    // Rows that need at most `kPasteStage` rows of logits are made together.
    const int lot = larger((kPasteStage - 2) * window.height / size, 1);
    for (int y = view.top; y < view.bottom; y += lot) {
        const int stop = smaller(y + lot, view.bottom);
        const Cover rows = needed_rows(y - window.top, stop - window.top, size, window.height);
        const bool is_staged = rows.last - rows.first <= stage_rows;
        if (is_staged) {
            const T* from = mine + static_cast<long long>(rows.first) * size;
            stage_values<T>(from, staged, (rows.last - rows.first) * size, kPasteThreads);
        }
        __syncthreads();
        for (int row = y + threadIdx.x / 32; row < stop; row += kPasteThreads / 32) {
            int* line = mask == nullptr ? nullptr : mask + static_cast<long long>(row) * words;
            if (is_staged) {
                paste_row(staged, rows.first, size, window, view, row, width, threshold, line,
                          extent);
            } else {
                paste_row(mine, 0, size, window, view, row, width, threshold, line, extent);
            }
        }
        __syncthreads();
    }
    reduce_extent(extent, partials + (static_cast<long long>(k) * gridDim.x + band) * kPartials);
}

// Area and box of one window's mask from its bands' partials.
FOVEATE_BOTH void box_item(int k, const int* partials, int* areas, float* boxes, int windows,
                           int bands) {
    if (k >= windows) return;
    Extent all = no_extent();
    for (int band = 0; band < bands; ++band) {
        const int* partial = partials + (static_cast<long long>(k) * bands + band) * kPartials;
        all.area += partial[0];
        all.left = smaller(all.left, partial[1]);
        all.top = smaller(all.top, partial[2]);
        all.right = larger(all.right, partial[3]);
        all.bottom = larger(all.bottom, partial[4]);
    }
    const bool any = all.area > 0;
    if (areas != nullptr) areas[k] = all.area;
    if (boxes == nullptr) return;
    boxes[4LL * k] = any ? static_cast<float>(all.left) : 0.0f;
    boxes[4LL * k + 1] = any ? static_cast<float>(all.top) : 0.0f;
    boxes[4LL * k + 2] = any ? static_cast<float>(all.right) : 0.0f;
    boxes[4LL * k + 3] = any ? static_cast<float>(all.bottom) : 0.0f;
}

}  // namespace foveate

#define FOVEATE_PASTE_KERNEL(suffix, T)                                                            \
    extern "C" __global__ void __launch_bounds__(foveate::kPasteThreads, foveate::kPasteBlocks)    \
        foveate_paste_windows_##suffix(                                                            \
            const T* __restrict__ logits, const float* __restrict__ geometry,                      \
            const int* __restrict__ count, const long long* __restrict__ columns,                  \
            int* __restrict__ bits, int* __restrict__ partials, int windows, int size, int height, \
            int width, float threshold, int stage_rows) {                                          \
        if (static_cast<int>(blockIdx.y) >= windows) return;                                       \
        foveate::paste_block<T>(logits, geometry, count, columns, bits, partials, size, height,    \
                                width, threshold, stage_rows);                                     \
    }

FOVEATE_PASTE_KERNEL(f32, float)
FOVEATE_PASTE_KERNEL(f16, foveate::Half)

#undef FOVEATE_PASTE_KERNEL

extern "C" __global__ void __launch_bounds__(foveate::kBoxThreads)
    foveate_paste_boxes(const int* __restrict__ partials, int* __restrict__ areas,
                        float* __restrict__ boxes, int windows, int bands) {
    foveate::box_item(blockIdx.x * foveate::kBoxThreads + threadIdx.x, partials, areas, boxes,
                      windows, bands);
}

#endif
