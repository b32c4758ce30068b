// SPDX-License-Identifier: Apache-2.0
// Arithmetic with the same results on every device and on the host.
//
// NOTE: Compilers may contract a * b + c into one fused operation with one rounding. That moves the
// edges of bins, so coordinates go through `mul`, `add` and `divide`, which no flag can contract.
// Half precision is only loaded and stored, as bits; all arithmetic is float32.
// No header is included, so that NVRTC compiles this without a toolkit.
#pragma once

#define FOVEATE_BOTH __host__ __device__ __forceinline__

namespace foveate {

struct Half {
    unsigned short bits;
};

#ifdef __CUDA_ARCH__
FOVEATE_BOTH float mul(float a, float b) { return __fmul_rn(a, b); }
FOVEATE_BOTH float add(float a, float b) { return __fadd_rn(a, b); }
FOVEATE_BOTH float divide(float a, float b) { return __fdiv_rn(a, b); }
FOVEATE_BOTH double mul(double a, double b) { return __dmul_rn(a, b); }
FOVEATE_BOTH double add(double a, double b) { return __dadd_rn(a, b); }
FOVEATE_BOTH double divide(double a, double b) { return __ddiv_rn(a, b); }
FOVEATE_BOTH float float_of(unsigned bits) { return __uint_as_float(bits); }
FOVEATE_BOTH unsigned bits_of(float value) { return __float_as_uint(value); }
FOVEATE_BOTH double double_of(long long bits) { return __longlong_as_double(bits); }
FOVEATE_BOTH long long bits_of(double value) { return __double_as_longlong(value); }
#else  // The host build is compiled with -ffp-contract=off.
FOVEATE_BOTH float mul(float a, float b) { return a * b; }
FOVEATE_BOTH float add(float a, float b) { return a + b; }
FOVEATE_BOTH float divide(float a, float b) { return a / b; }
FOVEATE_BOTH double mul(double a, double b) { return a * b; }
FOVEATE_BOTH double add(double a, double b) { return a + b; }
FOVEATE_BOTH double divide(double a, double b) { return a / b; }
FOVEATE_BOTH float float_of(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
FOVEATE_BOTH unsigned bits_of(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}
FOVEATE_BOTH double double_of(long long bits) {
    double value;
    __builtin_memcpy(&value, &bits, 8);
    return value;
}
FOVEATE_BOTH long long bits_of(double value) {
    long long bits;
    __builtin_memcpy(&bits, &value, 8);
    return bits;
}
#endif

FOVEATE_BOTH int smaller(int a, int b) { return a < b ? a : b; }
FOVEATE_BOTH int larger(int a, int b) { return a > b ? a : b; }
FOVEATE_BOTH int clamp(int value, int low, int high) { return smaller(larger(value, low), high); }
FOVEATE_BOTH int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The larger of two numbers; a NaN propagates, whereas fmaxf would drop it.
FOVEATE_BOTH float max_or_nan(float best, float value) {
    return value > best || value != value ? value : best;
}

// Rounds halves away from zero, as C's roundf does. In floor(x + 0.5) the sum would be rounded too.
FOVEATE_BOTH float round_half_away(float value) {
    const float magnitude = value < 0.0f ? -value : value;
    float whole = floorf(magnitude);
    if (magnitude - whole >= 0.5f) whole = add(whole, 1.0f);
    return value < 0.0f ? -whole : whole;
}

FOVEATE_BOTH float negative_infinity() { return float_of(0xff800000u); }

FOVEATE_BOTH float to_float(float value) { return value; }

#ifdef __CUDA_ARCH__
FOVEATE_BOTH float to_float(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

FOVEATE_BOTH Half to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#else
inline float to_float(Half value) {
    const unsigned sign = (value.bits & 0x8000u) << 16;
    const unsigned exponent = (value.bits >> 10) & 31u, fraction = value.bits & 0x3ffu;
    if (exponent == 31u) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0u) return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // a subnormal, exactly
    return sign != 0u ? -magnitude : magnitude;
}

// Round to nearest, ties to even.
inline Half to_half(float value) {
    const unsigned bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    const unsigned sign = (bits >> 16) & 0x8000u;
    unsigned result;
    if (magnitude > 0x7f800000u) {
        return {0x7fff};  // as the device converts every NaN
    } else if (magnitude >= 0x47800000u) {
        result = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {
        result = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else {
        // In units of the smallest subnormal; adding and subtracting 1.5 * 2^23 rounds to integers.
        const float units = float_of(magnitude) * 0x1p24f;
        const float rounded = (units + 12582912.0f) - 12582912.0f;
        result = static_cast<unsigned>(rounded);
    }
    return {static_cast<unsigned short>(sign | result)};
}
#endif

template <typename T>
FOVEATE_BOTH T from_float(float value);
template <>
FOVEATE_BOTH float from_float<float>(float value) {
    return value;
}
template <>
FOVEATE_BOTH Half from_float<Half>(float value) {
    return to_half(value);
}

}  // namespace foveate
