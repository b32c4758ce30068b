// SPDX-License-Identifier: Apache-2.0
// The few words of CUDA that device functions use, for a C++ compiler of the host. Included first.
#pragma once

#include <math.h>

#define __host__
#define __device__
#define __forceinline__ inline

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
