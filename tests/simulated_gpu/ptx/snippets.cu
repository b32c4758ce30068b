// SPDX-License-Identifier: Apache-2.0
// Small kernels that make the compiler emit what the interpreter must run, and small faults.
struct Pair {
    int first;
    float second;
    long long third;
};

// A loop whose length differs from thread to thread, with a branch inside.
extern "C" __global__ void collatz(const unsigned* start, int* steps, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    unsigned value = start[i];
    int n = 0;
    while (value > 1) {
        if (value & 1) {
            value = 3 * value + 1;
        } else {
            value /= 2;
        }
        ++n;
    }
    steps[i] = n;
}

// A structure as argument, a switch.
extern "C" __global__ void choose(Pair pair, const int* which, long long* output) {
    const int i = threadIdx.x;
    long long value = 0;
    switch (which[i]) {
        case 0: value = pair.first; break;
        case 1: value = static_cast<long long>(pair.second); break;
        case 2: value = pair.third; break;
        case 3: value = (i & 7) * (i & 7); break;
        case 4: value = i * 1000LL; break;
        case 5: value = -i; break;
        case 6: value = i % 3 * 7; break;
        default: value = 99;
    }
    output[i] = value;
}

// Vector loads and stores of every width.
extern "C" __global__ void vectors(const float4* a, const short4* b, const double2* c, float4* sum) {
    const int i = threadIdx.x;
    const float4 x = a[i];
    const short4 y = b[i];
    const double2 z = c[i];
    sum[i] = make_float4(x.x + y.x, x.y + y.y, x.z + z.x, x.w + z.y + y.z + y.w);
}

// Sum of a block by a tree in shared memory.
extern "C" __global__ void block_sum(const int* input, int* output) {
    __shared__ int values[128];
    const int t = threadIdx.x;
    values[t] = input[blockIdx.x * 128 + t];
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (t < half) values[t] += values[t + half];
        __syncthreads();
    }
    if (t == 0) output[blockIdx.x] = values[0];
}

// A vote of the lanes of a warp.
extern "C" __global__ void warps(const int* input, unsigned* output) {
    output[threadIdx.x] = __ballot_sync(0xffffffffu, input[threadIdx.x] & 1);
}

// Atomics on global and shared memory.
extern "C" __global__ void atomics(const int* input, int* bins, int* counter, int* order,
                                   int* extremes, float* sum, unsigned long long* wide) {
    __shared__ int local_bins[8];
    const int t = threadIdx.x, value = input[blockIdx.x * blockDim.x + t];
    if (t < 8) local_bins[t] = 0;
    __syncthreads();
    atomicAdd(&local_bins[value & 7], 1);
    __syncthreads();
    if (t < 8) atomicAdd(&bins[t], local_bins[t]);
    order[blockIdx.x * blockDim.x + t] = atomicAdd(counter, 1);
    atomicMin(&extremes[0], value);
    atomicMax(&extremes[1], value);
    atomicAdd(sum, 0.5f);
    atomicAdd(wide, 1ull << 33);
}

// A block that uses dynamic shared memory, in two dimensions.
extern "C" __global__ void transpose(const float* input, float* output, int height, int width) {
    extern __shared__ float tile[];
    const int x = blockIdx.x * 8 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
    if (x < width && y < height) tile[threadIdx.y * 9 + threadIdx.x] = input[y * width + x];
    __syncthreads();
    const int tx = blockIdx.y * 8 + threadIdx.x, ty = blockIdx.x * 8 + threadIdx.y;
    if (tx < height && ty < width) output[ty * height + tx] = tile[threadIdx.x * 9 + threadIdx.y];
}

// --- faults: each is right for some arguments and wrong for others -----------------------------

extern "C" __global__ void read_at(const float* input, float* output, int shift) {
    output[threadIdx.x] = input[static_cast<int>(threadIdx.x) + shift];
}

extern "C" __global__ void shift_by_one(const float* __restrict__ input, float* output) {
    output[threadIdx.x] = input[threadIdx.x + 1];
}

extern "C" __global__ void read_wide(const float* input, float4* output, int shift) {
    output[threadIdx.x] = *reinterpret_cast<const float4*>(input + 4 * threadIdx.x + shift);
}

extern "C" __global__ void neighbors(const int* input, int* output, int with_barrier) {
    __shared__ int values[64];
    values[threadIdx.x] = input[threadIdx.x];
    if (with_barrier) __syncthreads();
    output[threadIdx.x] = values[63 - threadIdx.x];
}

extern "C" __global__ void overwrite(const int* input, int* output, int with_barrier) {
    __shared__ int values[64];
    values[threadIdx.x] = input[threadIdx.x];
    __syncthreads();
    const int other = values[(threadIdx.x + 1) % 64];
    if (with_barrier) __syncthreads();
    values[threadIdx.x] = other;
    output[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void same_place(const int* input, int* output, int span) {
    __shared__ int values[64];
    values[threadIdx.x % span] = input[threadIdx.x];
    __syncthreads();
    output[threadIdx.x] = values[threadIdx.x % span];
}

extern "C" __global__ void within_warp(const int* input, int* output, int with_barrier) {
    __shared__ int values[64];
    values[threadIdx.x] = input[threadIdx.x];
    if (with_barrier) __syncwarp();
    output[threadIdx.x] = values[threadIdx.x ^ 1];
}

extern "C" __global__ void half_filled(const int* input, int* output, int filled) {
    __shared__ int values[64];
    if (threadIdx.x < filled) values[threadIdx.x] = input[threadIdx.x];
    __syncthreads();
    output[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void divergent(int* output, int limit) {
    if (threadIdx.x < limit) {
        output[threadIdx.x] = 1;
        __syncthreads();
        output[threadIdx.x] = 2;
    }
}

extern "C" __global__ void two_barriers(int* output, int limit) {
    if (threadIdx.x < limit) {
        __syncthreads();
        output[threadIdx.x] = 1;
    } else {
        __syncthreads();
        output[threadIdx.x] = 2;
    }
}

extern "C" __global__ void partial_vote(unsigned* output, int limit) {
    if (threadIdx.x < limit) output[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x & 1);
}

extern "C" __global__ void shared_at(int* output, int shift) {
    __shared__ int values[32];
    values[threadIdx.x + shift] = threadIdx.x;
    __syncthreads();
    output[threadIdx.x] = values[threadIdx.x + shift];
}

extern "C" __global__ void endless(volatile int* flag) {
    while (*flag == 0) {
    }
}
