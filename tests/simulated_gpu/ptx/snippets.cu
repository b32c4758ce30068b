// SPDX-License-Identifier: Apache-2.0
// Small kernels that make the compiler emit what the interpreter must run, and small faults.
struct Pair {
    int first;
    float second;
    long long third;
};

__constant__ int squares[8] = {0, 1, 4, 9, 16, 25, 36, 49};
__device__ int counter;

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

// A structure as argument, a table in constant memory, a switch.
extern "C" __global__ void choose(Pair pair, const int* which, long long* output) {
    const int i = threadIdx.x;
    long long value = 0;
    switch (which[i]) {
        case 0: value = pair.first; break;
        case 1: value = static_cast<long long>(pair.second); break;
        case 2: value = pair.third; break;
        case 3: value = squares[i & 7]; break;
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

// A local array that is indexed at run time.
extern "C" __global__ void local_array(const int* order, int* output, int count) {
    int values[8];
    for (int i = 0; i < 8; ++i) values[i] = i * i + threadIdx.x;
    int sum = 0;
    for (int i = 0; i < count; ++i) {
        values[order[i] & 7] += i;
        sum = sum * 3 + values[order[(i + threadIdx.x) % count] & 7];
    }
    output[threadIdx.x] = sum;
}

// Sum of a block by a tree in shared memory, then by shuffles.
extern "C" __global__ void block_sum(const int* input, int* output, int* by_warp) {
    __shared__ int values[128];
    const int t = threadIdx.x;
    values[t] = input[blockIdx.x * 128 + t];
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (t < half) values[t] += values[t + half];
        __syncthreads();
    }
    if (t == 0) output[blockIdx.x] = values[0];
    int mine = input[blockIdx.x * 128 + t];
    for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(0xffffffffu, mine, step);
    if (t % 32 == 0) by_warp[blockIdx.x * 4 + t / 32] = mine;
}

// Exchanges within a warp.
extern "C" __global__ void warps(const int* input, unsigned* output) {
    const int t = threadIdx.x, value = input[t];
    const unsigned all = 0xffffffffu;
    unsigned* mine = output + 9 * t;
    mine[0] = __ballot_sync(all, value & 1);
    mine[1] = __any_sync(all, value == 5) | __all_sync(all, value >= 0) << 1;
    mine[2] = __shfl_up_sync(all, value, 3);
    mine[3] = __shfl_xor_sync(all, value, 5);
    mine[4] = __shfl_sync(all, value, t * 7, 16);
    mine[5] = __shfl_down_sync(all, value, 2, 8);
    mine[6] = __match_any_sync(all, value & 3);
    mine[7] = __popc(__activemask());
    mine[8] = __syncthreads_count(value & 1) + 1000 * __syncthreads_or(value == 7);
    if (t % 32 < 16) mine[7] += 100 * __shfl_sync(0xffffu, value, 15);
}

// Atomics on global and shared memory.
extern "C" __global__ void atomics(const int* input, int* bins, int* order, unsigned* extremes,
                                   float* sum, unsigned long long* wide) {
    __shared__ int local_bins[8];
    const int t = threadIdx.x, value = input[blockIdx.x * blockDim.x + t];
    if (t < 8) local_bins[t] = 0;
    __syncthreads();
    atomicAdd(&local_bins[value & 7], 1);
    __syncthreads();
    if (t < 8) atomicAdd(&bins[t], local_bins[t]);
    order[blockIdx.x * blockDim.x + t] = atomicAdd(&counter, 1);
    atomicMin(&extremes[0], static_cast<unsigned>(value));
    atomicMax(reinterpret_cast<int*>(&extremes[1]), value);
    atomicOr(&extremes[2], 1u << (value & 31));
    atomicInc(&extremes[3], 9u);
    atomicExch(&extremes[4], 77u);
    atomicCAS(&extremes[5], 5u, 6u);
    atomicAdd(sum, 0.5f);
    atomicAdd(wide, 1ull << 33);
}

// Mathematics in float32 and float64.
extern "C" __global__ void mathematics(const float* x, float* output, double* wide, int count) {
    const int i = threadIdx.x;
    const float v = x[i];
    float* mine = output + 8 * i;
    mine[0] = expf(v);
    mine[1] = logf(fabsf(v) + 0.5f);
    mine[2] = sqrtf(fabsf(v));
    mine[3] = v / 3.0f;
    mine[4] = roundf(v * 10.0f);
    mine[5] = fmaf(v, v, -v);
    mine[6] = fmodf(v, 0.7f);
    mine[7] = floorf(v) + ceilf(v) + truncf(v) + rintf(v);
    wide[i] = exp(static_cast<double>(v)) / (1.0 + v * v) + i / count + sqrt(fabs(v) + 1.0);
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

extern "C" __global__ void half_local(int* output, const int* where, int filled) {
    int values[16];
    for (int i = 0; i < filled; ++i) values[where[i]] = i;
    output[threadIdx.x] = values[where[threadIdx.x & 15]];
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

extern "C" __global__ void partial_shuffle(int* output, int limit) {
    if (threadIdx.x < limit) {
        output[threadIdx.x] = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
    }
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
