// SPDX-License-Identifier: Apache-2.0
// A few neighboring elements, moved by one access of at most 16 bytes, as float32.
#pragma once

#include "device/numbers.cuh"

namespace foveate {

template <int N>
struct Pack {
    float lane[N];
};

// Elements of type T that one 16-byte access moves.
template <typename T>
struct Wide;
template <>
struct Wide<float> {
    static constexpr int lanes = 4;
};
template <>
struct Wide<Half> {
    static constexpr int lanes = 8;
};

template <typename T, int N>
struct Access;

template <typename T>
struct Access<T, 1> {
    static FOVEATE_BOTH Pack<1> load(const T* from) { return {{to_float(*from)}}; }
    static FOVEATE_BOTH void store(T* to, const Pack<1>& pack) {
        *to = from_float<T>(pack.lane[0]);
    }
};

template <>
struct Access<float, 4> {
    static FOVEATE_BOTH Pack<4> load(const float* from) {
        const float4 all = *reinterpret_cast<const float4*>(from);
        return {{all.x, all.y, all.z, all.w}};
    }
    static FOVEATE_BOTH void store(float* to, const Pack<4>& pack) {
        *reinterpret_cast<float4*>(to) =
            make_float4(pack.lane[0], pack.lane[1], pack.lane[2], pack.lane[3]);
    }
};

template <>
struct Access<Half, 8> {
    static FOVEATE_BOTH Pack<8> load(const Half* from) {
        const uint4 all = *reinterpret_cast<const uint4*>(from);
        const unsigned words[4] = {all.x, all.y, all.z, all.w};
        Pack<8> pack;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            pack.lane[2 * i] = to_float(Half{static_cast<unsigned short>(words[i] & 0xffffu)});
            pack.lane[2 * i + 1] = to_float(Half{static_cast<unsigned short>(words[i] >> 16)});
        }
        return pack;
    }
    static FOVEATE_BOTH void store(Half* to, const Pack<8>& pack) {
        unsigned words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            words[i] = to_half(pack.lane[2 * i]).bits |
                       static_cast<unsigned>(to_half(pack.lane[2 * i + 1]).bits) << 16;
        }
        *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }
};

}  // namespace foveate
