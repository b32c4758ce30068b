// SPDX-License-Identifier: Apache-2.0
// Source samples and weights for resampling an axis, in exact integer arithmetic.
//
// A position is a fraction of integers. In float32 the product (i + 0.5) * scale would be off by up
// to 1e-5 samples on a wide axis, and the result would be off as well.
#pragma once

#include "device/numbers.cuh"

namespace foveate {

// value = first + (second - first) * share
struct Blend {
    int first;
    int second;
    float share;
};

// The blend at position numerator / denominator on an axis of `length` samples, clamped to it.
FOVEATE_BOTH Blend blend_at(int numerator, int denominator, int length) {
    if (numerator <= 0) return {0, 0, 0.0f};
    const int first = numerator / denominator;
    if (first >= length - 1) return {length - 1, length - 1, 0.0f};
    const int rest = numerator - first * denominator;
    return {first, first + 1, divide(static_cast<float>(rest), static_cast<float>(denominator))};
}

// The blend for sample `index` of `length` made from `old` ones, with centers at half-integers.
FOVEATE_BOTH Blend half_pixel_blend(int index, int old, int length) {
    return blend_at((2 * index + 1) * old - length, 2 * length, old);
}

// The same with aligned corners: the first samples of both axes coincide, and so do the last.
FOVEATE_BOTH Blend corner_blend(int index, int old, int length) {
    return length > 1 ? blend_at(index * (old - 1), length - 1, old) : Blend{0, 0, 0.0f};
}

FOVEATE_BOTH float mix(float first, float second, float share) {
    return add(first, mul(add(second, -first), share));
}

// Samples [first, last) that sample `index` of a shrinking axis covers, and by how much.
struct Cover {
    int first;
    int last;
    int low;  // the covered interval in units of 1 / length
    int high;
};

FOVEATE_BOTH Cover cover_at(int index, int old, int length) {
    const int low = index * old, high = low + old;
    return {low / length, ceil_div(high, length), low, high};
}

// Part of sample `at` that is covered, in units of 1 / length; the parts sum to `old`.
FOVEATE_BOTH int covered(const Cover& cover, int at, int length) {
    return smaller(cover.high, (at + 1) * length) - larger(cover.low, at * length);
}

}  // namespace foveate
