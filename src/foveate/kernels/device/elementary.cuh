// SPDX-License-Identifier: Apache-2.0
// Exponential and logarithm in float64.
//
// NOTE: The libraries of device and host differ in the last bit, and contract; these do not.
#pragma once

#include "device/numbers.cuh"

namespace foveate {

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

}  // namespace foveate
