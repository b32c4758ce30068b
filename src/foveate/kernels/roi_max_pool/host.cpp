// SPDX-License-Identifier: Apache-2.0
// ROI max pooling on the CPU. Bins and maxima are those of the device code.
//
// Maps are turned to channel-last first, so that a pixel's channels are neighbours and the maximum
// of two pixels is a few vector instructions. A region is pooled where it fits a cache, then
// written channel by channel.
#include <thread>
#include <vector>

#include "device/on_host.h"

#include "roi_max_pool/bins.cuh"

namespace foveate {

struct Pooling {
    int batch, channels, height, width, rows, columns;
    float scale;
    int rounding;
};

// Call `work(first, last)` for parts of [0, count), in as many threads.
template <typename Work>
void in_threads(int count, int threads, const Work& work) {
    std::vector<std::thread> started;
    for (int i = 1; i < threads; ++i) {
        const long long first = static_cast<long long>(count) * i / threads;
        const long long last = static_cast<long long>(count) * (i + 1) / threads;
        started.emplace_back(work, static_cast<int>(first), static_cast<int>(last));
    }
    work(0, static_cast<int>(static_cast<long long>(count) / threads));
    for (std::thread& thread : started) thread.join();
}

// to[column][row] = from[row][column], in tiles that fit a cache.
inline void transpose(const float* from, float* to, long long rows, long long columns) {
    constexpr long long kTile = 16;
    for (long long top = 0; top < rows; top += kTile) {
        const long long bottom = top + kTile < rows ? top + kTile : rows;
        for (long long column = 0; column < columns; ++column) {
            for (long long row = top; row < bottom; ++row) {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
}

// Maximum over a bin, for all channels; `map` is channel-last.
inline void pool_bin(const float* map, const Bin& bin, const Pooling& pooling, float* best) {
    const int channels = pooling.channels;
    const float start = is_empty(bin) ? 0.0f : negative_infinity();
    for (int c = 0; c < channels; ++c) best[c] = start;
    if (is_empty(bin)) return;
    for (int y = bin.rows.first; y < bin.rows.last; ++y) {
        for (int x = bin.columns.first; x < bin.columns.last; ++x) {
            const float* pixel = map + (static_cast<long long>(y) * pooling.width + x) * channels;
            for (int c = 0; c < channels; ++c) best[c] = max_or_nan(best[c], pixel[c]);
        }
    }
}

inline void pool_region(const float* maps, const float* roi, const Pooling& pooling, float* scratch,
                        float* pooled) {
    const int bins = pooling.rows * pooling.columns;
    const long long map_size =
        static_cast<long long>(pooling.height) * pooling.width * pooling.channels;
    for (int i = 0; i < bins; ++i) {
        const Bin bin = bin_of(roi, i, pooling.batch, pooling.height, pooling.width, pooling.rows,
                               pooling.columns, pooling.scale, pooling.rounding);
        pool_bin(maps + bin.map * map_size, bin, pooling,
                 scratch + static_cast<long long>(i) * pooling.channels);
    }
    transpose(scratch, pooled, bins, pooling.channels);
}

}  // namespace foveate

// Pool regions: features (batch, channels, height, width), rois (count, 5), pooled (count,
// channels, rows, columns); turned, as many floats as features, is overwritten.
extern "C" __attribute__((visibility("default"))) void foveate_host_roi_max_pool(const float* features, float* turned, const float* rois,
                                          float* pooled, int batch, int channels, int height,
                                          int width, int count, int rows, int columns, float scale,
                                          int rounding, int threads) {
    using namespace foveate;
    const Pooling pooling = {batch, channels, height, width, rows, columns, scale, rounding};
    const long long pixels = static_cast<long long>(height) * width;
    for (long long map = 0; map < batch; ++map) {
        const long long start = map * pixels * channels;
        transpose(features + start, turned + start, channels, pixels);
    }
    const long long size = static_cast<long long>(rows) * columns * channels;
    in_threads(count, threads, [&](int first, int last) {
        std::vector<float> scratch(static_cast<size_t>(size));
        for (int i = first; i < last; ++i) {
            pool_region(turned, rois + 5LL * i, pooling, scratch.data(), pooled + i * size);
        }
    });
}
