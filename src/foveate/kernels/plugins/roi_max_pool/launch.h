// SPDX-License-Identifier: Apache-2.0
// Declarations of the launchers in launch.cu. The including file must declare cudaStream_t.
#pragma once

extern "C" {

int foveate_launch_roi_max_pool(const void* features, const float* rois, void* pooled, int batch,
                                int height, int width, int channels, int roi_count, int rows,
                                int columns, float scale, int rounding, int type,
                                cudaStream_t stream);

int foveate_launch_square_table(const void* source, void* table, int batch, int height, int width,
                                int channels, int half, int type, cudaStream_t stream);

int foveate_launch_roi_max_pool_tables(const void* features, const void* table2, const void* table4,
                                       const void* table8, const float* rois, void* pooled,
                                       int batch, int height, int width, int channels,
                                       int roi_count, int rows, int columns, float scale,
                                       int rounding, int type, cudaStream_t stream);
}
