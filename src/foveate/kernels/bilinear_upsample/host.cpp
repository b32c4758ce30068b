// SPDX-License-Identifier: Apache-2.0
// Painting masks that are known as runs down their columns; see window_mask.py.

// Paint runs of foreground on `pixels`, which are zero, at (top, left) of the picture, and height x
// width; their rows are `stride` bytes apart. The runs (count,) lie inside. Where one begins or
// ends is marked, then each row continues the one above.
extern "C" __attribute__((visibility("default"))) void foveate_host_paint(
    unsigned char* pixels, long long stride, long long top, long long left, long long height,
    long long width, const long long* columns, const long long* starts, const long long* ends,
    long long count) {
    for (long long i = 0; i < count; ++i) {
        const long long x = columns[i] - left;
        pixels[(starts[i] - top) * stride + x] ^= 1;
        if (ends[i] - top < height) pixels[(ends[i] - top) * stride + x] ^= 1;
    }
    for (long long y = 1; y < height; ++y) {
        unsigned char* row = pixels + y * stride;
        const unsigned char* above = row - stride;
        for (long long x = 0; x < width; ++x) row[x] ^= above[x];
    }
}
