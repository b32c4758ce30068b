// SPDX-License-Identifier: Apache-2.0
// Declarations of the launchers in launch.cu. The including file must declare cudaStream_t.
#pragma once

namespace foveate {

constexpr int kMaxMapWidth = 4096;  // of the output, whose column blends lie in shared memory

}  // namespace foveate

extern "C" {

long long foveate_paste_windows_scratch_bytes(int windows, int height);

int foveate_launch_paste_windows(const void* logits, const float* geometry,
                                 const long long* columns, int* bits, int* areas, float* boxes,
                                 int* scratch, int windows, int size, int height, int width,
                                 float threshold, int type, cudaStream_t stream);

int foveate_launch_upsample_map(const void* input, const void* second, void* output, int count,
                                int channels, int height, int width, int out_height, int out_width,
                                int align_corners, int relu, int type, cudaStream_t stream);
}
