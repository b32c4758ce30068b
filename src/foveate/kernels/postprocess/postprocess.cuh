// SPDX-License-Identifier: Apache-2.0
// From class probabilities and box deltas to detections: the kernels before and after suppression.
//
// Kernels, in the order of their launch; between them run those of nms/nms.cuh, with the classes as
// groups, over all rows * classes candidates:
//   foveate_postprocess_candidates  block (128), grid (ceil(rows * classes / 128)): a thread scores
//                                   one class of one row, and decodes its box if the score is high
//                                   enough; otherwise the box has no area, so that suppression
//                                   orders it after all others
//   foveate_postprocess_gather      block (128), grid (ceil(limit / 128)): a thread gathers one
//                                   detection
// No shared memory, no barrier. Bound by memory traffic, at most 44 bytes per candidate and 44 per
// detection. Scores and boxes are computed in float64, as in reference.py, and rounded at the end.
#ifndef FOVEATE_POSTPROCESS_CUH
#define FOVEATE_POSTPROCESS_CUH

#include "device/pack.cuh"
#include "nms/nms.cuh"

namespace foveate {

constexpr int kItemThreads = 128;
constexpr double kTinyProbability = 1e-7;  // keeps the logit of a probability of 0 or 1 finite
constexpr double kLargestLogit = 500.0;

// Exponential and logarithm in float64. Those of the device and host libraries differ in the last
// bit and contain contracted operations; these do not.
constexpr double kLog2High = 0.693147180369123816490;  // so few bits that its multiples are exact
constexpr double kLog2Low = 1.90821492927058770002e-10;

// e^x for x <= 700, within 2^-51 of the true value.
FOVEATE_BOTH double exponential(double x) {
    if (x != x) return x;
    if (x < -700.0) return 0.0;  // smaller than any float32
    const double whole = floor(add(mul(x, 1.4426950408889634), 0.5));
    const double high = mul(whole, kLog2High), low = mul(whole, kLog2Low);
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

// The natural logarithm of a normal positive number, within 2^-51 of the true value.
FOVEATE_BOTH double logarithm(double x) {
    if (x != x) return x;
    // x = m * 2^e with m from sqrt(1/2) to sqrt(2).
    const long long bits = bits_of(x) - 0x3fe6a09e667f3bcdLL;
    const long long exponent = bits >> 52;
    const double m = double_of((bits & 0xfffffffffffffLL) + 0x3fe6a09e667f3bcdLL);
    // log m = 2 atanh s; the series to the 23rd power, |s| <= 0.1716.
    const double s = divide(add(m, -1.0), add(m, 1.0)), square = mul(s, s);
    double sum = 1.0 / 23;
#pragma unroll
    for (int power = 21; power >= 3; power -= 2) sum = add(mul(sum, square), 1.0 / power);
    const double rest = mul(mul(mul(2.0, s), square), sum), whole = static_cast<double>(exponent);
    const double low = add(mul(whole, kLog2Low), rest);
    return add(mul(whole, kLog2High), add(mul(2.0, s), low));
}

constexpr double kMaxGrowth = 4.135166556742356;  // log(1000 / 16)

FOVEATE_BOTH float clip_to(double value, double limit) {
    const double positive = value < 0.0 ? 0.0 : value;
    return static_cast<float>(positive > limit ? limit : positive);
}

// Mean and standard deviation of the four deltas of a box.
struct Normalisation {
    double mean[4];
    double std[4];
};

// A box moved by its deltas (Girshick et al., "R-CNN", appendix C) and clipped to the image.
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

// A score is sigmoid(bias + slope * logit(probability) + weight * objectness).
struct Calibration {
    double bias, slope, weight;
};

FOVEATE_BOTH double limited(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;  // a NaN stays
}

FOVEATE_BOTH float calibrated(double probability, double objectness, const Calibration& c) {
    const double p = limited(probability, kTinyProbability, 1.0 - kTinyProbability);
    const double odds = logarithm(divide(p, add(1.0, -p)));
    const double sum = add(add(c.bias, mul(c.slope, odds)), mul(c.weight, objectness));
    const double logit = limited(sum, -kLargestLogit, kLargestLogit);
    return static_cast<float>(divide(1.0, add(1.0, exponential(-logit))));
}

// Outputs of the classifier: probabilities (rows, classes + 1) and deltas (rows, classes + 1, 4),
// where class 0 is the background.
struct Classified {
    const float* probabilities;
    const float* deltas;
    int rows, classes;
};

// Inputs of the classifier: boxes (capacity, 4) and scores (capacity,) of all proposals, the
// proposal of each row, and the number of rows.
struct Proposed {
    const float* boxes;
    const float* scores;
    const int* keep;
    const int* keep_count;
    int capacity;

    // The proposal of a row, -1 if there is none.
    FOVEATE_BOTH int of(int row) const {
        const int index = row < keep_count[0] ? keep[row] : -1;
        return index < capacity ? index : -1;
    }
};

FOVEATE_BOTH void candidate_item(int item, const Classified& found, const Proposed& proposed,
                                 float* boxes, float* scores, int* labels, const Normalisation& n,
                                 const Calibration& calibration, float score_threshold, int height,
                                 int width) {
    if (item >= found.rows * found.classes) return;
    const int row = item / found.classes, label = item % found.classes;
    const int source = row * (found.classes + 1) + label + 1, proposal = proposed.of(row);
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    float score = 0.0f;
    if (proposal >= 0) {
        score = calibrated(found.probabilities[source], proposed.scores[proposal], calibration);
        if (score >= score_threshold) {
            box = decoded(Access<float, 4>::load(proposed.boxes + 4LL * proposal),
                          Access<float, 4>::load(found.deltas + 4LL * source), n, height, width);
        }
    }
    Access<float, 4>::store(boxes + 4LL * item, box);
    scores[item] = score;
    labels[item] = label;
}

FOVEATE_BOTH void detection_item(int place, const int* winners, const float* boxes,
                                 const float* scores, const int* keep, float* detected_boxes,
                                 float* detected_scores, long long* detected_labels,
                                 int* detected_rows, int limit, int classes) {
    if (place >= limit) return;
    const int item = winners[place];
    const bool exists = item >= 0;
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    if (exists) box = Access<float, 4>::load(boxes + 4LL * item);
    Access<float, 4>::store(detected_boxes + 4LL * place, box);
    detected_scores[place] = exists ? scores[item] : 0.0f;
    detected_labels[place] = exists ? item % classes : -1;
    detected_rows[place] = exists ? keep[item / classes] : -1;
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kItemThreads) foveate_postprocess_candidates(
    const float* __restrict__ probabilities, const float* __restrict__ deltas,
    const float* __restrict__ boxes, const float* __restrict__ scores, const int* __restrict__ keep,
    const int* __restrict__ keep_count, float* __restrict__ candidate_boxes,
    float* __restrict__ candidate_scores, int* __restrict__ candidate_labels, int rows, int classes,
    int capacity, double mean_x, double mean_y, double mean_w, double mean_h, double std_x,
    double std_y, double std_w, double std_h, double bias, double slope, double weight,
    float score_threshold, int height, int width) {
    const foveate::Normalisation normalisation{{mean_x, mean_y, mean_w, mean_h},
                                               {std_x, std_y, std_w, std_h}};
    foveate::candidate_item(
        blockIdx.x * foveate::kItemThreads + threadIdx.x, {probabilities, deltas, rows, classes},
        {boxes, scores, keep, keep_count, capacity}, candidate_boxes, candidate_scores,
        candidate_labels, normalisation, {bias, slope, weight}, score_threshold, height, width);
}

extern "C" __global__ void __launch_bounds__(foveate::kItemThreads)
    foveate_postprocess_gather(const int* __restrict__ winners, const float* __restrict__ boxes,
                               const float* __restrict__ scores, const int* __restrict__ keep,
                               float* __restrict__ detected_boxes,
                               float* __restrict__ detected_scores,
                               long long* __restrict__ detected_labels,
                               int* __restrict__ detected_rows, int limit, int classes) {
    foveate::detection_item(blockIdx.x * foveate::kItemThreads + threadIdx.x, winners, boxes,
                            scores, keep, detected_boxes, detected_scores, detected_labels,
                            detected_rows, limit, classes);
}

#endif
