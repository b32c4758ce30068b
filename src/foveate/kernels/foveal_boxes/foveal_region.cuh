// SPDX-License-Identifier: Apache-2.0
// One foveal region of a box, in float64 and rounded at the end.
#pragma once

#include "device/pack.cuh"

namespace foveate {

FOVEATE_BOTH Pack<4> foveal_box(const Pack<4>& box, double scale) {
    Pack<4> region;
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
        const double low = box.lane[axis], high = box.lane[axis + 2];
        const double grow = mul(mul(add(high, -low), add(scale, -1.0)), 0.5);
        region.lane[axis] = static_cast<float>(add(low, -grow));
        region.lane[axis + 2] = static_cast<float>(add(high, grow));
    }
    return region;
}

}  // namespace foveate
