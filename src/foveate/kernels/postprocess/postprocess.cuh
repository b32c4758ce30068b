// SPDX-License-Identifier: Apache-2.0
// From class probabilities and box deltas to detections: suppression per class, then the best of all.
//
// Kernels, in the order of their launch, for R rows of C classes and N detections, L = min(R, N):
//   foveate_postprocess_classes_f32, _f16  block (256), grid (C), 1,028 bytes of static shared
//                                          memory: a block scores one class of all rows, orders the
//                                          scores, and lists the at most L boxes that survive. Only
//                                          boxes that it comes to are decoded. Dependent passes:
//                                          those of nms/nms.cuh for R boxes
//   foveate_postprocess_detections         block (128), grid (ceil(max(C * L, N) / 128)): a thread
//                                          finds the place of one survivor among those of all
//                                          classes, by a binary search per class
// No more than N survivors of a class can be among the best N, so that scratch memory is bounded by
// C * (8 * R + 20 * L + 4) bytes. Scores and boxes are computed in float64, as in reference.py, and
// rounded at the end.
#ifndef FOVEATE_POSTPROCESS_CUH
#define FOVEATE_POSTPROCESS_CUH

#include "device/pack.cuh"
#include "nms/greedy.cuh"

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
struct Normalization {
    double mean[4];
    double std[4];
};

// A box moved by its deltas (Girshick et al., "R-CNN", appendix C) and clipped to the image.
FOVEATE_BOTH Pack<4> decoded(const Pack<4>& box, const Pack<4>& delta, const Normalization& n,
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
        const double center = add(add(low, mul(side, 0.5)), mul(shift[axis], side));
        const double growth = shift[axis + 2];
        const double fresh = mul(side, exponential(growth > kMaxGrowth ? kMaxGrowth : growth));
        const double limit = axis == 0 ? width : height, half = mul(fresh, 0.5);
        result.lane[axis] = clip_to(add(center, -half), limit);
        result.lane[axis + 2] = clip_to(add(center, half), limit);
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

// Outputs of the classifier for one class, of rows that are `stride` elements apart.
template <typename T>
struct Classified {
    const T* probabilities;
    const T* deltas;
    int stride;

    FOVEATE_BOTH double probability(int row) const {
        return to_float(probabilities[static_cast<long long>(row) * stride]);
    }
    FOVEATE_BOTH Pack<4> delta(int row) const {
        const T* from = deltas + 4LL * row * stride;
        return {{to_float(from[0]), to_float(from[1]), to_float(from[2]), to_float(from[3])}};
    }
};

// Inputs of the classifier: boxes (capacity, 4) and scores (capacity,) of all proposals, and the
// proposal of each row.
struct Proposed {
    const float* boxes;
    const float* scores;
    const int* keep;
    int capacity;

    // The proposal of a row, -1 if there is none.
    FOVEATE_BOTH int of(int row) const {
        const int index = keep[row];
        return index < capacity ? index : -1;
    }
    FOVEATE_BOTH Pack<4> box(int row) const {
        return Access<float, 4>::load(boxes + 4LL * of(row));
    }
};

// The boxes of one class that survive, best first: their rows (limit,), their boxes (limit,), and
// their number; and the scores of all rows.
struct Survivors {
    const float* scores;
    const int* rows;
    const Box* boxes;
    int count;
};

// Results for `limit` detections: see cpu.py.
struct Detected {
    float* boxes;
    float* scores;
    long long* labels;
    int* rows;
    int* count;
    int limit;

    FOVEATE_BOTH void put(int place, const Box& box, float score, int label, int proposal) const {
        Access<float, 4>::store(boxes + 4LL * place, {{box.x0, box.y0, box.x1, box.y1}});
        scores[place] = score;
        labels[place] = label;
        rows[place] = proposal;
    }
};

constexpr float kNoScore = -1.0f;  // of a row that is no candidate; scores are at least 0

// Score, order and choose the boxes of one class of `rows` rows. `scores` (rows,), `order` (rows,),
// `winners` (limit,), `boxes` (limit,) and `count` belong to the class.
template <typename T>
__device__ void class_block(const Classified<T>& found, const Proposed& proposed, float* scores,
                            int* order, int* winners, Box* boxes, int* count, int rows, int limit,
                            const Normalization& n, const Calibration& calibration,
                            float score_threshold, double iou, int height, int width) {
    __shared__ int candidates;
    if (threadIdx.x == 0) candidates = 0;
    __syncthreads();
    for (int row = threadIdx.x; row < rows; row += kRankThreads) {
        const int proposal = proposed.of(row);
        float score = kNoScore;
        if (proposal >= 0) {
            score = calibrated(found.probability(row), proposed.scores[proposal], calibration);
        }
        const bool is_candidate = score >= score_threshold && proposal >= 0;
        scores[row] = is_candidate ? score : kNoScore;
        if (is_candidate) atomicAdd(&candidates, 1);
    }
    const auto key_of = [scores](int row) { return score_key(scores[row]); };
    const auto box_of = [&](int row) {
        const Pack<4> box = decoded(proposed.box(row), found.delta(row), n, height, width);
        return Box{box.lane[0], box.lane[1], box.lane[2], box.lane[3]};
    };
    // Before its first barrier, each thread reads the scores that it wrote.
    find_order(key_of, rows, 0, rows, order);
    // The other rows have lower scores, so that candidates come first.
    const int total = choose_boxes(box_of, order, candidates, limit, iou, winners, boxes);
    if (threadIdx.x == 0) *count = total;
}

// Number of survivors of a class that come before the score of a row in another class. Equal scores
// are in the order of rows, then of labels: `is_first` tells whether this class has the lower label.
FOVEATE_BOTH int survivors_before(const Survivors& all, float score, int row, bool is_first) {
    int low = 0, high = all.count;
    while (low < high) {
        const int middle = (low + high) / 2, other = all.rows[middle];
        const float other_score = all.scores[other];
        const bool is_before =
            other_score > score ||
            (other_score == score && (other < row || (other == row && is_first)));
        if (is_before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// What the classes found: scores (classes, rows), and survivors (classes, limit).
struct Found {
    const float* scores;
    const int* winners;
    const Box* boxes;
    const int* counts;
    int classes, rows, limit;

    FOVEATE_BOTH Survivors of(int label) const {
        const long long first = static_cast<long long>(label) * limit;
        return {scores + static_cast<long long>(label) * rows, winners + first, boxes + first,
                counts[label]};
    }
};

// Survivor `item` of all classes, if it exists, to its place; and the place `item`, if it is empty.
FOVEATE_BOTH void detection_item(int item, const Found& found, const int* keep,
                                 const Detected& detected) {
    int total = 0;
    for (int label = 0; label < found.classes; ++label) total += found.counts[label];
    if (item == 0) detected.count[0] = smaller(total, detected.limit);
    if (item >= total && item < detected.limit) {
        detected.put(item, {0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, -1, -1);
    }
    const int label = found.limit > 0 ? item / found.limit : found.classes;
    if (label >= found.classes) return;
    const int index = item - label * found.limit;
    const Survivors own = found.of(label);
    if (index >= own.count) return;
    const int row = own.rows[index];
    const float score = own.scores[row];
    int place = index;
    for (int other = 0; other < found.classes && place < detected.limit; ++other) {
        if (other == label) continue;
        place += survivors_before(found.of(other), score, row, other < label);
    }
    if (place < detected.limit) detected.put(place, own.boxes[index], score, label, keep[row]);
}

}  // namespace foveate

#define FOVEATE_CLASSES_KERNEL(suffix, T)                                                          \
    extern "C" __global__ void __launch_bounds__(foveate::kRankThreads)                            \
        foveate_postprocess_classes_##suffix(                                                      \
            const T* __restrict__ probabilities, const T* __restrict__ deltas,                     \
            const float* __restrict__ boxes, const float* __restrict__ scores,                     \
            const int* __restrict__ keep, const int* __restrict__ keep_count,                      \
            float* __restrict__ class_scores, int* __restrict__ order, int* __restrict__ winners,  \
            foveate::Box* __restrict__ chosen, int* __restrict__ counts, int rows, int capacity,   \
            int limit, double mean_x, double mean_y, double mean_w, double mean_h, double std_x,   \
            double std_y, double std_w, double std_h, double bias, double slope, double weight,    \
            double iou, float score_threshold, int height, int width) {                            \
        const int label = blockIdx.x, stride = gridDim.x + 1, column = label + 1;                  \
        const long long row = static_cast<long long>(label) * rows;                                \
        const long long place = static_cast<long long>(label) * limit;                             \
        foveate::class_block<T>(                                                                   \
            {probabilities + column, deltas + 4LL * column, stride},                               \
            {boxes, scores, keep, capacity}, class_scores + row, order + row, winners + place,     \
            chosen + place, counts + label, foveate::smaller(keep_count[0], rows), limit,          \
            {{mean_x, mean_y, mean_w, mean_h}, {std_x, std_y, std_w, std_h}},                      \
            {bias, slope, weight}, score_threshold, iou, height, width);                           \
    }

FOVEATE_CLASSES_KERNEL(f32, float)
FOVEATE_CLASSES_KERNEL(f16, foveate::Half)

#undef FOVEATE_CLASSES_KERNEL

extern "C" __global__ void __launch_bounds__(foveate::kItemThreads)
    foveate_postprocess_detections(
        const float* __restrict__ class_scores, const int* __restrict__ winners,
        const foveate::Box* __restrict__ chosen, const int* __restrict__ counts,
        const int* __restrict__ keep, float* __restrict__ detected_boxes,
        float* __restrict__ detected_scores, long long* __restrict__ detected_labels,
        int* __restrict__ detected_rows, int* __restrict__ detected_count, int classes, int rows,
        int limit, int detections) {
    foveate::detection_item(blockIdx.x * foveate::kItemThreads + threadIdx.x,
                            {class_scores, winners, chosen, counts, classes, rows, limit}, keep,
                            {detected_boxes, detected_scores, detected_labels, detected_rows,
                             detected_count, detections});
}

#endif
