// SPDX-License-Identifier: Apache-2.0
// Applies the box regression of the classify stage (Girshick et al., "R-CNN", appendix C).
//
// Kernel foveate_decode_boxes: block (128), grid (ceil(rows * classes / 128)). A thread decodes one
// box; deltas and results move in accesses of 16 bytes. No shared memory, no barrier.
// Bound: bytes, 32 a box. The arithmetic is float64, as in reference.py, and rounded at the end.
#ifndef FOVEATE_DECODE_BOXES_CUH
#define FOVEATE_DECODE_BOXES_CUH

#include "device/pack.cuh"

namespace foveate {

constexpr int kDecodeThreads = 128;
constexpr double kMaxGrowth = 4.135166556742356;  // log(1000 / 16)

// e^x for x <= log(1000 / 16), within 2^-51 of the true value.
//
// NOTE: The libraries of device and host differ in the last bit, and contract; this does not.
FOVEATE_BOTH double exponential(double x) {
    if (x != x) return x;
    if (x < -700.0) return 0.0;  // smaller than any float32
    const double whole = floor(add(mul(x, 1.4426950408889634), 0.5));
    // ln 2 in two parts, of which the first has so few bits that its multiples are exact.
    const double high = mul(whole, 0.693147180369123816490),
                 low = mul(whole, 1.90821492927058770002e-10);
    const double rest = add(add(x, -high), -low);
    // The Taylor series to the 13th power; |rest| <= ln 2 / 2.
    const double inverse_factorials[14] = {1.0,
                                           1.0,
                                           1.0 / 2,
                                           1.0 / 6,
                                           1.0 / 24,
                                           1.0 / 120,
                                           1.0 / 720,
                                           1.0 / 5040,
                                           1.0 / 40320,
                                           1.0 / 362880,
                                           1.0 / 3628800,
                                           1.0 / 39916800,
                                           1.0 / 479001600,
                                           1.0 / 6227020800.0};
    double sum = inverse_factorials[13];
#pragma unroll
    for (int power = 12; power >= 0; --power) {
        sum = add(mul(sum, rest), inverse_factorials[power]);
    }
    const long long exponent = (static_cast<long long>(whole) + 1023) << 52;
    return mul(sum, double_of(exponent));
}

FOVEATE_BOTH float clip_to(double value, double limit) {
    const double positive = value < 0.0 ? 0.0 : value;
    return static_cast<float>(positive > limit ? limit : positive);
}

// mean and std of a box's four deltas.
struct Normalisation {
    double mean[4];
    double std[4];
};

FOVEATE_BOTH Pack<4> decoded(const Pack<4>& box, const Pack<4>& delta, const Normalisation& n,
                             int height, int width) {
    Pack<4> result;
    double shift[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        shift[i] = add(mul(static_cast<double>(delta.lane[i]), n.std[i]), n.mean[i]);
    }
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
        const double low = box.lane[axis],
                     side = add(static_cast<double>(box.lane[axis + 2]), -low);
        const double centre = add(add(low, mul(side, 0.5)), mul(shift[axis], side));
        const double growth = shift[axis + 2];
        const double fresh = mul(side, exponential(growth > kMaxGrowth ? kMaxGrowth : growth));
        const double limit = axis == 0 ? width : height, half = mul(fresh, 0.5);
        result.lane[axis] = clip_to(add(centre, -half), limit);
        result.lane[axis + 2] = clip_to(add(centre, half), limit);
    }
    return result;
}

FOVEATE_BOTH void decode_item(long long item, const float* boxes, const float* deltas,
                              float* results, int rows, int classes, const Normalisation& n,
                              int height, int width) {
    if (item >= static_cast<long long>(rows) * classes) return;
    const Pack<4> box = Access<float, 4>::load(boxes + 4 * (item / classes));
    const Pack<4> delta = Access<float, 4>::load(deltas + 4 * item);
    Access<float, 4>::store(results + 4 * item, decoded(box, delta, n, height, width));
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kDecodeThreads)
    foveate_decode_boxes(const float* __restrict__ boxes, const float* __restrict__ deltas,
                         float* __restrict__ results, int rows, int classes, double mean_x,
                         double mean_y, double mean_w, double mean_h, double std_x, double std_y,
                         double std_w, double std_h, int height, int width) {
    const foveate::Normalisation normalisation{{mean_x, mean_y, mean_w, mean_h},
                                               {std_x, std_y, std_w, std_h}};
    foveate::decode_item(static_cast<long long>(blockIdx.x) * foveate::kDecodeThreads + threadIdx.x,
                         boxes, deltas, results, rows, classes, normalisation, height, width);
}

#endif
