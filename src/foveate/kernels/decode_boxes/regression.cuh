// SPDX-License-Identifier: Apache-2.0
// What a box becomes by its deltas, in float64 as in reference.py, rounded at the end.
#pragma once

#include "device/elementary.cuh"
#include "device/pack.cuh"

namespace foveate {

constexpr double kMaxGrowth = 4.135166556742356;  // log(1000 / 16)

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

}  // namespace foveate
