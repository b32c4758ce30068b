// SPDX-License-Identifier: Apache-2.0
// Launchers of the kernels in roi_max_pool.cuh. They allocate nothing and do not synchronize.
#include "plugins/roi_max_pool/roi_max_pool.cuh"
#include "plugins/roi_max_pool/launch.h"

#include "plugins/launch.cuh"

namespace foveate {

struct PoolShape {
    int batch, height, width, channels, roi_count, rows, columns;
};

inline bool has_negative(const PoolShape& s) {
    return s.batch < 0 || s.height < 0 || s.width < 0 || s.channels < 0 || s.roi_count < 0 ||
           s.rows < 0 || s.columns < 0;
}

inline long long map_size(const PoolShape& s) {
    return static_cast<long long>(s.batch) * s.height * s.width * s.channels;
}

inline bool has_output(const PoolShape& s) {
    return s.roi_count > 0 && s.rows > 0 && s.columns > 0 && s.channels > 0;
}

// Return the number of blocks of a pooling, or more than kMaxGridX if it is too large to launch.
inline long long pool_blocks(const PoolShape& s, int lanes) {
    const long long cells = static_cast<long long>(s.rows) * s.columns;
    if (cells > kMaxGridX || cells * s.channels > kMaxGridX) return kMaxGridX + 1;
    return ((cells * (s.channels / lanes) + kPoolThreads - 1) / kPoolThreads) * s.roi_count;
}

inline int check_pool(const PoolShape& s, const void* features, const float* rois,
                      const void* pooled, float scale, int rounding, int type) {
    if (has_negative(s)) return kBadShape;
    const bool scale_is_usable = scale > 0.0f && scale <= 3.402823466e38f;
    if (!scale_is_usable || rounding < 0 || rounding > 1) return kBadOption;
    if (type != kFloat32 && type != kFloat16) return kBadOption;
    if (!has_output(s)) return kOk;
    if (rois == nullptr || pooled == nullptr) return kNullPointer;
    if (map_size(s) > 0 && features == nullptr) return kNullPointer;
    const int bytes = type == kFloat32 ? 4 : 2;
    if (!is_aligned(features, bytes) || !is_aligned(pooled, bytes) || !is_aligned(rois, 4)) {
        return kMisaligned;
    }
    return pool_blocks(s, 1) > kMaxGridX ? kTooLarge : kOk;
}

// Return the elements per access: 16 bytes if the channels and addresses allow it, otherwise one.
inline int lanes_of(int channels, int type, const void* first, const void* second) {
    const int lanes = type == kFloat32 ? Wide<float>::lanes : Wide<Half>::lanes;
    return channels % lanes == 0 && is_aligned(first, 16) && is_aligned(second, 16) ? lanes : 1;
}

}  // namespace foveate

// Pool every ROI directly from the map.
//   features (batch, height, width, channels), rois (roi_count, 5) float32 map, x0, y0, x1, y1,
//   pooled (roi_count, rows, columns, channels); type: see foveate::Type.
extern "C" int foveate_launch_roi_max_pool(const void* features, const float* rois, void* pooled,
                                           int batch, int height, int width, int channels,
                                           int roi_count, int rows, int columns, float scale,
                                           int rounding, int type, cudaStream_t stream) {
    using namespace foveate;
    const PoolShape shape{batch, height, width, channels, roi_count, rows, columns};
    const int status = check_pool(shape, features, rois, pooled, scale, rounding, type);
    if (status != kOk || !has_output(shape)) return status;
    const int lanes = lanes_of(channels, type, features, pooled);
    const dim3 grid(static_cast<unsigned>(pool_blocks(shape, lanes)));
#define FOVEATE_START(suffix, T)                                                                  \
    FOVEATE_LAUNCH(foveate_roi_max_pool_##suffix, grid, dim3(kPoolThreads), 0, stream,            \
                   static_cast<const T*>(features), rois, static_cast<T*>(pooled), batch, height, \
                   width, channels, roi_count, rows, columns, scale, rounding)
    if (type == kFloat32)
        return lanes > 1 ? FOVEATE_START(f32x4, float) : FOVEATE_START(f32x1, float);
    return lanes > 1 ? FOVEATE_START(f16x8, Half) : FOVEATE_START(f16x1, Half);
#undef FOVEATE_START
}

// Make the table of windows of twice the side. `source` and `table` (batch, height, width,
// channels) must not overlap; `half` is the side of the windows of `source`.
extern "C" int foveate_launch_square_table(const void* source, void* table, int batch, int height,
                                           int width, int channels, int half, int type,
                                           cudaStream_t stream) {
    using namespace foveate;
    const PoolShape shape{batch, height, width, channels, 0, 0, 0};
    if (has_negative(shape)) return kBadShape;
    if (half < 1 || half > 4 || (type != kFloat32 && type != kFloat16)) return kBadOption;
    if (map_size(shape) == 0) return kOk;
    if (source == nullptr || table == nullptr) return kNullPointer;
    const int bytes = type == kFloat32 ? 4 : 2;
    if (!is_aligned(source, bytes) || !is_aligned(table, bytes)) return kMisaligned;
    const int lanes = lanes_of(channels, type, source, table);
    const long long blocks = (map_size(shape) / lanes + kPoolThreads - 1) / kPoolThreads;
    if (blocks > kMaxGridX) return kTooLarge;
    const dim3 grid(static_cast<unsigned>(blocks));
#define FOVEATE_START(suffix, T)                                                                \
    FOVEATE_LAUNCH(foveate_square_table_##suffix, grid, dim3(kPoolThreads), 0, stream,          \
                   static_cast<const T*>(source), static_cast<T*>(table), batch, height, width, \
                   channels, half)
    if (type == kFloat32)
        return lanes > 1 ? FOVEATE_START(f32x4, float) : FOVEATE_START(f32x1, float);
    return lanes > 1 ? FOVEATE_START(f16x8, Half) : FOVEATE_START(f16x1, Half);
#undef FOVEATE_START
}

// Pool every ROI from the map and its tables of 2 x 2, 4 x 4 and 8 x 8 windows, which have the
// shape of the map.
extern "C" int foveate_launch_roi_max_pool_tables(const void* features, const void* table2,
                                                  const void* table4, const void* table8,
                                                  const float* rois, void* pooled, int batch,
                                                  int height, int width, int channels,
                                                  int roi_count, int rows, int columns, float scale,
                                                  int rounding, int type, cudaStream_t stream) {
    using namespace foveate;
    const PoolShape shape{batch, height, width, channels, roi_count, rows, columns};
    const int status = check_pool(shape, features, rois, pooled, scale, rounding, type);
    if (status != kOk || !has_output(shape)) return status;
    const void* tables[3] = {table2, table4, table8};
    bool aligned = true;
    for (const void* table : tables) {
        if (map_size(shape) > 0 && table == nullptr) return kNullPointer;
        if (!is_aligned(table, type == kFloat32 ? 4 : 2)) return kMisaligned;
        aligned = aligned && is_aligned(table, 16);
    }
    const int lanes = aligned ? lanes_of(channels, type, features, pooled) : 1;
    const dim3 grid(static_cast<unsigned>(pool_blocks(shape, lanes)));
#define FOVEATE_START(suffix, T)                                                              \
    FOVEATE_LAUNCH(foveate_roi_max_pool_tables_##suffix, grid, dim3(kPoolThreads), 0, stream, \
                   static_cast<const T*>(features), static_cast<const T*>(table2),            \
                   static_cast<const T*>(table4), static_cast<const T*>(table8), rois,        \
                   static_cast<T*>(pooled), batch, height, width, channels, roi_count, rows,  \
                   columns, scale, rounding)
    if (type == kFloat32)
        return lanes > 1 ? FOVEATE_START(f32x4, float) : FOVEATE_START(f32x1, float);
    return lanes > 1 ? FOVEATE_START(f16x8, Half) : FOVEATE_START(f16x1, Half);
#undef FOVEATE_START
}
