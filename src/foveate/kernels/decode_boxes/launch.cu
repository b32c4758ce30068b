// SPDX-License-Identifier: Apache-2.0
// Launcher of the decoding of boxes.
#include "decode_boxes/decode_boxes.cuh"

#include "device/launch.cuh"

// Move and scale boxes by their regression, and clip them to the image.
//   boxes (rows, 4) float32 xyxy; deltas and results (rows, classes, 4) float32; each at a multiple
//   of 16 bytes; mean and std of the four deltas; height and width of the image. A NaN stays.
extern "C" int foveate_launch_decode_boxes(const float* boxes, const float* deltas, float* results,
                                           int rows, int classes, double mean_x, double mean_y,
                                           double mean_w, double mean_h, double std_x, double std_y,
                                           double std_w, double std_h, int height, int width,
                                           cudaStream_t stream) {
    using namespace foveate;
    if (rows < 0 || classes < 0 || height < 0 || width < 0) return kBadShape;
    if (rows == 0 || classes == 0) return kOk;
    if (boxes == nullptr || deltas == nullptr || results == nullptr) return kNullPointer;
    if (!is_aligned(boxes, 16) || !is_aligned(deltas, 16) || !is_aligned(results, 16)) {
        return kMisaligned;
    }
    const long long items = static_cast<long long>(rows) * classes;
    const long long blocks = (items + kDecodeThreads - 1) / kDecodeThreads;
    if (blocks > kMaxGridX) return kTooLarge;
    return FOVEATE_LAUNCH(foveate_decode_boxes, dim3(static_cast<unsigned>(blocks)),
                          dim3(kDecodeThreads), 0, stream, boxes, deltas, results, rows, classes,
                          mean_x, mean_y, mean_w, mean_h, std_x, std_y, std_w, std_h, height,
                          width);
}
