// SPDX-License-Identifier: Apache-2.0
// Status codes of the launchers, checks of their arguments, and the macro that launches a kernel.
//
// A launcher takes a stream, neither allocates nor synchronizes, and returns a status: 0 for
// success, a cudaError_t if the launch failed, and a negative code of this list if an argument is
// invalid, in which case nothing was launched.
#pragma once

namespace foveate {

enum Status {
    kOk = 0,
    kNullPointer = -1,  // an array that would be read or written is null
    kBadShape = -2,     // a negative length
    kBadOption = -3,    // an invalid number or choice
    kTooLarge = -4,     // more than one launch or 32-bit indices can cover
    kMisaligned = -5,   // an address that is not a multiple of the element's size
};

enum Type { kFloat32 = 0, kFloat16 = 1 };

constexpr long long kMaxGridX = 2147483647LL;
constexpr int kMaxGridY = 65535;

inline bool is_aligned(const void* pointer, int bytes) {
    return reinterpret_cast<unsigned long long>(pointer) % static_cast<unsigned>(bytes) == 0;
}

}  // namespace foveate

// Launch a kernel and return the status. A build for the CPU defines its own macro.
#ifndef FOVEATE_LAUNCH
#define FOVEATE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)   \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), \
     static_cast<int>(cudaGetLastError()))
#endif
