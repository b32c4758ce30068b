// SPDX-License-Identifier: Apache-2.0
// Launchers of what comes before and after the suppression of classified boxes. Between them a
// program calls foveate_launch_nms with the candidates' boxes, scores and labels (the groups), rows
// * classes of them, without a count.
#include "finish/finish.cuh"

#include "device/launch.cuh"

namespace foveate {

constexpr int kMostCandidates = 65536;  // as many boxes as are suppressed together

inline bool are_candidates_too_many(int rows, int classes) {
    return static_cast<long long>(rows) * classes > kMostCandidates;
}

}  // namespace foveate

// Score every class of every row, and regress the boxes of those that score `min_score`.
//   probabilities (rows, classes + 1) float32, deltas (rows, classes + 1, 4) float32, class 0 being
//   the background; boxes (capacity, 4) float32 xyxy and scores (capacity,) float32, the objectness
//   of all proposals; kept (rows,) int32, the proposal of each row, and kept_count (1,) int32, how
//   many rows exist; candidate_boxes (rows, classes, 4) float32, zeros for those that score less,
//   candidate_scores and candidate_labels (rows, classes) float32 and int32; boxes and deltas at
//   multiples of 16 bytes; mean and std of the deltas; bias, slope and weight of the calibration;
//   height and width of the image. A row whose proposal is no index has no candidates.
extern "C" int foveate_launch_finish_candidates(
    const float* probabilities, const float* deltas, const float* boxes, const float* scores,
    const int* kept, const int* kept_count, float* candidate_boxes, float* candidate_scores,
    int* candidate_labels, int rows, int classes, int capacity, double mean_x, double mean_y,
    double mean_w, double mean_h, double std_x, double std_y, double std_w, double std_h,
    double bias, double slope, double weight, float min_score, int height, int width,
    cudaStream_t stream) {
    using namespace foveate;
    if (rows < 0 || classes < 0 || capacity < 0 || height < 0 || width < 0) return kBadShape;
    if (min_score != min_score) return kBadOption;
    if (rows == 0 || classes == 0) return kOk;
    if (probabilities == nullptr || deltas == nullptr || kept == nullptr || kept_count == nullptr ||
        candidate_boxes == nullptr || candidate_scores == nullptr || candidate_labels == nullptr ||
        (capacity > 0 && (boxes == nullptr || scores == nullptr))) {
        return kNullPointer;
    }
    if (!is_aligned(probabilities, 4) || !is_aligned(deltas, 16) || !is_aligned(boxes, 16) ||
        !is_aligned(scores, 4) || !is_aligned(kept, 4) || !is_aligned(kept_count, 4) ||
        !is_aligned(candidate_boxes, 16) || !is_aligned(candidate_scores, 4) ||
        !is_aligned(candidate_labels, 4)) {
        return kMisaligned;
    }
    if (are_candidates_too_many(rows, classes)) return kTooLarge;
    const dim3 grid(static_cast<unsigned>(ceil_div(rows * classes, kFinishThreads)));
    return FOVEATE_LAUNCH(foveate_finish_candidates, grid, dim3(kFinishThreads), 0, stream,
                          probabilities, deltas, boxes, scores, kept, kept_count, candidate_boxes,
                          candidate_scores, candidate_labels, rows, classes, capacity, mean_x,
                          mean_y, mean_w, mean_h, std_x, std_y, std_w, std_h, bias, slope, weight,
                          min_score, height, width);
}

// Gather what survived.
//   winners (limit,) int32, candidates in the order of their scores, -1 after the end;
//   candidate_boxes, candidate_scores and kept as above; found_boxes (limit, 4) float32,
//   found_scores (limit,) float32, found_labels (limit,) int64 from 0 and found_rows (limit,)
//   int32, the proposals; zeros and -1 after the end. Boxes at multiples of 16 bytes.
extern "C" int foveate_launch_finish_gather(const int* winners, const float* candidate_boxes,
                                            const float* candidate_scores, const int* kept,
                                            float* found_boxes, float* found_scores,
                                            long long* found_labels, int* found_rows, int rows,
                                            int classes, int limit, cudaStream_t stream) {
    using namespace foveate;
    if (rows < 0 || classes < 0 || limit < 0) return kBadShape;
    if (limit == 0) return kOk;
    const bool any = rows > 0 && classes > 0;
    if (winners == nullptr || found_boxes == nullptr || found_scores == nullptr ||
        found_labels == nullptr || found_rows == nullptr ||
        (any && (candidate_boxes == nullptr || candidate_scores == nullptr || kept == nullptr))) {
        return kNullPointer;
    }
    if (!is_aligned(winners, 4) || !is_aligned(candidate_boxes, 16) ||
        !is_aligned(candidate_scores, 4) || !is_aligned(kept, 4) || !is_aligned(found_boxes, 16) ||
        !is_aligned(found_scores, 4) || !is_aligned(found_labels, 8) ||
        !is_aligned(found_rows, 4)) {
        return kMisaligned;
    }
    if (are_candidates_too_many(rows, classes) || limit > kMaxGridX - kFinishThreads) {
        return kTooLarge;
    }
    const dim3 grid(static_cast<unsigned>(ceil_div(limit, kFinishThreads)));
    return FOVEATE_LAUNCH(foveate_finish_gather, grid, dim3(kFinishThreads), 0, stream, winners,
                          candidate_boxes, candidate_scores, kept, found_boxes, found_scores,
                          found_labels, found_rows, limit, classes);
}
