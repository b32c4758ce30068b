// SPDX-License-Identifier: Apache-2.0
// From class probabilities and box deltas to detections: what comes before and after suppression.
//
// Kernels, in the order of their launch; between them run those of nms/nms.cuh, with the classes as
// groups, over all rows * classes candidates:
//   foveate_finish_candidates  block (128), grid (ceil(rows * classes / 128)): a thread scores one
//                              class of one row, and decodes its box if the score suffices; else
//                              the box has no area, so that suppression orders it after all others
//   foveate_finish_gather      block (128), grid (ceil(limit / 128)): a thread gathers a detection
// No shared memory, no barrier. Bound: bytes, 44 a candidate at most and 44 a detection. Scores and
// boxes are computed in float64, as in reference.py, and rounded at the end.
#ifndef FOVEATE_FINISH_CUH
#define FOVEATE_FINISH_CUH

#include "decode_boxes/regression.cuh"

namespace foveate {

constexpr int kFinishThreads = 128;
constexpr double kTinyProbability = 1e-7;  // keeps the logit of a probability of 0 or 1 finite
constexpr double kLargestLogit = 500.0;

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

// What the classifier says: probabilities (rows, classes + 1) and deltas (rows, classes + 1, 4),
// where class 0 is the background.
struct Classified {
    const float* probabilities;
    const float* deltas;
    int rows, classes;
};

// What it was asked: boxes (capacity, 4) and scores (capacity,) of all proposals, the proposal of
// each row, and how many rows there are.
struct Proposed {
    const float* boxes;
    const float* scores;
    const int* kept;
    const int* kept_count;
    int capacity;

    // The proposal of a row, -1 if there is none.
    FOVEATE_BOTH int of(int row) const {
        const int index = row < kept_count[0] ? kept[row] : -1;
        return index < capacity ? index : -1;
    }
};

FOVEATE_BOTH void candidate_item(int item, const Classified& found, const Proposed& proposed,
                                 float* boxes, float* scores, int* labels, const Normalisation& n,
                                 const Calibration& calibration, float min_score, int height,
                                 int width) {
    if (item >= found.rows * found.classes) return;
    const int row = item / found.classes, label = item % found.classes;
    const int source = row * (found.classes + 1) + label + 1, proposal = proposed.of(row);
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    float score = 0.0f;
    if (proposal >= 0) {
        score = calibrated(found.probabilities[source], proposed.scores[proposal], calibration);
        if (score >= min_score) {
            box = decoded(Access<float, 4>::load(proposed.boxes + 4LL * proposal),
                          Access<float, 4>::load(found.deltas + 4LL * source), n, height, width);
        }
    }
    Access<float, 4>::store(boxes + 4LL * item, box);
    scores[item] = score;
    labels[item] = label;
}

FOVEATE_BOTH void gather_item(int place, const int* winners, const float* boxes,
                              const float* scores, const int* kept, float* found_boxes,
                              float* found_scores, long long* found_labels, int* found_rows,
                              int limit, int classes) {
    if (place >= limit) return;
    const int item = winners[place];
    const bool exists = item >= 0;
    Pack<4> box{{0.0f, 0.0f, 0.0f, 0.0f}};
    if (exists) box = Access<float, 4>::load(boxes + 4LL * item);
    Access<float, 4>::store(found_boxes + 4LL * place, box);
    found_scores[place] = exists ? scores[item] : 0.0f;
    found_labels[place] = exists ? item % classes : -1;
    found_rows[place] = exists ? kept[item / classes] : -1;
}

}  // namespace foveate

extern "C" __global__ void __launch_bounds__(foveate::kFinishThreads) foveate_finish_candidates(
    const float* __restrict__ probabilities, const float* __restrict__ deltas,
    const float* __restrict__ boxes, const float* __restrict__ scores, const int* __restrict__ kept,
    const int* __restrict__ kept_count, float* __restrict__ candidate_boxes,
    float* __restrict__ candidate_scores, int* __restrict__ candidate_labels, int rows, int classes,
    int capacity, double mean_x, double mean_y, double mean_w, double mean_h, double std_x,
    double std_y, double std_w, double std_h, double bias, double slope, double weight,
    float min_score, int height, int width) {
    const foveate::Normalisation normalisation{{mean_x, mean_y, mean_w, mean_h},
                                               {std_x, std_y, std_w, std_h}};
    foveate::candidate_item(
        blockIdx.x * foveate::kFinishThreads + threadIdx.x, {probabilities, deltas, rows, classes},
        {boxes, scores, kept, kept_count, capacity}, candidate_boxes, candidate_scores,
        candidate_labels, normalisation, {bias, slope, weight}, min_score, height, width);
}

extern "C" __global__ void __launch_bounds__(foveate::kFinishThreads)
    foveate_finish_gather(const int* __restrict__ winners, const float* __restrict__ boxes,
                          const float* __restrict__ scores, const int* __restrict__ kept,
                          float* __restrict__ found_boxes, float* __restrict__ found_scores,
                          long long* __restrict__ found_labels, int* __restrict__ found_rows,
                          int limit, int classes) {
    foveate::gather_item(blockIdx.x * foveate::kFinishThreads + threadIdx.x, winners, boxes, scores,
                         kept, found_boxes, found_scores, found_labels, found_rows, limit, classes);
}

#endif
