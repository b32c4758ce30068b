// SPDX-License-Identifier: Apache-2.0
// What every launcher shares: its status codes, and the one way to start a kernel.
//
// A launcher takes a stream, neither allocates nor synchronises, and returns a status: 0 is
// success, a positive one is a cudaError_t of the launch, a negative one is of this list.
// `status.py` turns them into errors.
#pragma once

namespace foveate {

enum Status {
    kOk = 0,
    kNullPointer = -1,  // an array that would be read or written is null
    kBadShape = -2,     // a negative length
    kBadOption = -3,    // a number or a choice that has no meaning
    kTooLarge = -4,     // more than the launch or 32-bit indices can hold
    kMisaligned = -5,   // an address that is no multiple of its element's size
};

enum Type { kFloat32 = 0, kFloat16 = 1 };

constexpr long long kMaxGridX = 2147483647LL;
constexpr int kMaxGridY = 65535;

inline bool is_aligned(const void* pointer, int bytes) {
    return reinterpret_cast<unsigned long long>(pointer) % static_cast<unsigned>(bytes) == 0;
}

}  // namespace foveate

// Start a kernel and return the status of the launch. (The host build brings its own.)
#ifndef FOVEATE_LAUNCH
#define FOVEATE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)   \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), \
     static_cast<int>(cudaGetLastError()))
#endif
