// SPDX-License-Identifier: Apache-2.0
// Launcher of the gathering of windows.
#include "gather_windows/gather_windows.cuh"

#include "device/launch.cuh"

// Copy the patch of each pick out of the map of its level.
//   maps (levels,) addresses of planar maps (channels, H, W); shapes (levels, 2) int32 their H and
//   W; picks (count, 3) int32 level, row, column, level -1 for padding; patches
//   (count, channels, size, size), zeros for padding and outside of the map. A patch begins at
//   step * (row, column). type: see foveate::Type.
extern "C" int foveate_launch_gather_windows(const void* maps, const int* shapes, const int* picks,
                                             void* patches, int count, int levels, int channels,
                                             int size, int step, int type, cudaStream_t stream) {
    using namespace foveate;
    if (count < 0 || levels < 0 || channels < 0 || size < 0 || step < 0) return kBadShape;
    if (type != kFloat32 && type != kFloat16) return kBadOption;
    if (count == 0 || channels == 0 || size == 0) return kOk;
    if (picks == nullptr || patches == nullptr) return kNullPointer;
    if (levels > 0 && (maps == nullptr || shapes == nullptr)) return kNullPointer;
    const int bytes = type == kFloat32 ? 4 : 2;
    if (!is_aligned(maps, 8) || !is_aligned(shapes, 4) || !is_aligned(picks, 4) ||
        !is_aligned(patches, bytes)) {
        return kMisaligned;
    }
    if (size > 32767 || count > kMaxGridY) return kTooLarge;
    const long long patch = static_cast<long long>(channels) * size * size;
    if (patch > kMaxGridX - 8 * kGatherThreads) return kTooLarge;
    const int widest = 16 / bytes;
    const int lanes = patch % widest == 0 && is_aligned(patches, 16) ? widest : 1;
    const dim3 grid(
        static_cast<unsigned>(ceil_div(static_cast<int>(patch) / lanes, kGatherThreads)),
        static_cast<unsigned>(count));
#define FOVEATE_START(suffix, T)                                                                \
    FOVEATE_LAUNCH(foveate_gather_windows_##suffix, grid, dim3(kGatherThreads), 0, stream,      \
                   static_cast<const T* const*>(maps), shapes, picks, static_cast<T*>(patches), \
                   count, levels, channels, size, step)
    if (type == kFloat32)
        return lanes > 1 ? FOVEATE_START(f32x4, unsigned) : FOVEATE_START(f32x1, unsigned);
    return lanes > 1 ? FOVEATE_START(f16x8, unsigned short) : FOVEATE_START(f16x1, unsigned short);
#undef FOVEATE_START
}
