// SPDX-License-Identifier: Apache-2.0
// CUDA's keywords for a C++ compiler: kernels and launchers, unchanged, run on the host.
//
// A launch runs block after block. The threads of a block run one after the other on one stack
// until one of them meets a barrier: it is set aside with its stack, and the next thread starts on
// another one. When every thread of the block (or warp) waits, all go on. A thread that ends while
// others wait for it, or a warp function that not all 32 lanes reach, aborts the process: on a
// device it would hang or be undefined.
#pragma once

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#ifndef __global__
#define __global__
#endif
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
typedef void* cudaStream_t;

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __clz(int value) {
    return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __ffs(int value) { return __builtin_ffs(value); }

namespace host {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kDynamicSharedBytes = 228 * 1024;

inline void fail(const char* text) {
    std::fprintf(stderr, "cuda_on_host: %s\n", text);
    std::abort();
}

enum class State { kRunning, kBlockBarrier, kWarpBarrier, kEnded };

typedef void* Place[5];  // where code goes on after a switch of stacks

// One stack, and the thread that is on it.
struct Worker {
    Place place;
    std::vector<char> stack = std::vector<char>(kStackBytes);
    void* fake_stack = nullptr;
    int thread = -1;
    State state = State::kRunning;
};

// The block that runs.
struct Block {
    std::function<void()> body;
    dim3 size;
    int threads = 0, started = 0, ended = 0;
    std::vector<Worker*> workers;  // those whose thread is set aside, or runs
    std::vector<Worker*> spare;
    Worker* current = nullptr;
    Place scheduler;
    void* scheduler_fake_stack = nullptr;
    const void* scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;
    std::vector<unsigned> exchange;  // the argument of each lane of a warp function
};

inline Block block;
inline std::string launches;
alignas(16) inline char dynamic_shared[kDynamicSharedBytes];

inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;

inline void set_thread(int thread) {
    const unsigned t = static_cast<unsigned>(thread);
    thread_index = {t % block.size.x, t / block.size.x % block.size.y,
                    t / (block.size.x * block.size.y)};
}

// The address sanitizer has to be notified of each change of stack. (g++ and clang define different
// macros for it.)
#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define BEFORE_SWITCH(...) __sanitizer_start_switch_fiber(__VA_ARGS__)
#define AFTER_SWITCH(...) __sanitizer_finish_switch_fiber(__VA_ARGS__)
#else
#define BEFORE_SWITCH(...)
#define AFTER_SWITCH(...)
#endif

// A switch by swapcontext would ask the system for its signals, and make the address sanitizer forget
// what it knows of the stack. It would also forget it at any function that it sees not to return.
#define UNSEEN __attribute__((noinline, no_sanitize("address", "undefined")))
UNSEEN inline void jump(Place& to) { __builtin_longjmp(to, 1); }
UNSEEN inline void go(Place& from, Place& to) {
    if (__builtin_setjmp(from) == 0) jump(to);
}
UNSEEN inline void start(Place& from, const ucontext_t& to) {
    if (__builtin_setjmp(from) == 0) setcontext(&to);
}

inline void to_scheduler(Worker* worker) {
    BEFORE_SWITCH(&worker->fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
    go(worker->place, block.scheduler);
    AFTER_SWITCH(worker->fake_stack, nullptr, nullptr);
}

// Run threads that have not started yet on this stack, until one of them has waited.
inline void run_threads(Worker* self) {
    while (block.started < block.threads) {
        self->thread = block.started++;
        self->state = State::kRunning;
        set_thread(self->thread);
        const bool alone = block.workers.size() == 1;
        block.body();
        ++block.ended;
        // A worker that waited must not start a new thread: the others are at the same point.
        if (!alone || block.workers.size() != 1) break;
    }
    self->state = State::kEnded;
}

// What a stack is for, from its first use on.
inline void work() {
    AFTER_SWITCH(nullptr, &block.scheduler_stack, &block.scheduler_stack_bytes);
    Worker* self = block.current;
    for (;; to_scheduler(self)) run_threads(self);
}

inline void resume(Worker* worker) {
    block.current = worker;
    set_thread(worker->thread);
    worker->state = State::kRunning;
    BEFORE_SWITCH(&block.scheduler_fake_stack, worker->stack.data(), kStackBytes);
    go(block.scheduler, worker->place);
    AFTER_SWITCH(block.scheduler_fake_stack, nullptr, nullptr);
}

// Make a stack, and use it for the first time.
inline void start_new_worker() {
    Worker* worker = block.current = new Worker;
    block.workers.push_back(worker);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = worker->stack.data();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, work, 0);
    BEFORE_SWITCH(&block.scheduler_fake_stack, worker->stack.data(), kStackBytes);
    start(block.scheduler, context);
    AFTER_SWITCH(block.scheduler_fake_stack, nullptr, nullptr);
}

inline void start_worker() {
    if (block.spare.empty()) return start_new_worker();
    Worker* worker = block.spare.back();
    block.spare.pop_back();
    block.workers.push_back(worker);
    resume(worker);
}

inline void wait(State state) {
    Worker* self = block.current;
    self->state = state;
    to_scheduler(self);
    block.current = self;
}

// Resume every worker whose barrier is complete; return whether there was one.
inline bool release() {
    std::vector<Worker*> ready;
    bool all_at_block = true;
    for (Worker* worker : block.workers) all_at_block &= worker->state == State::kBlockBarrier;
    if (all_at_block && static_cast<int>(block.workers.size()) == block.threads) {
        ready = block.workers;
    } else {
        std::vector<int> waiting(static_cast<size_t>(block.threads / 32 + 1), 0);
        for (Worker* worker : block.workers) {
            if (worker->state == State::kWarpBarrier) ++waiting[worker->thread / 32];
        }
        for (Worker* worker : block.workers) {
            const bool complete = waiting[worker->thread / 32] == 32;
            if (worker->state == State::kWarpBarrier && complete) ready.push_back(worker);
        }
    }
    for (Worker* worker : ready) resume(worker);
    return !ready.empty();
}

inline void drop_ended() {
    std::vector<Worker*> left;
    for (Worker* worker : block.workers) {
        (worker->state == State::kEnded ? block.spare : left).push_back(worker);
    }
    block.workers = left;
}

inline void run_block() {
    block.started = block.ended = 0;
    while (block.started < block.threads) {
        start_worker();
        drop_ended();
    }
    while (block.ended < block.threads) {
        const bool waits_for_block = [] {
            for (Worker* worker : block.workers) {
                if (worker->state == State::kBlockBarrier) return true;
            }
            return false;
        }();
        if (waits_for_block && block.ended > 0) fail("a barrier that not every thread reaches");
        if (!release()) fail("a barrier or warp function that not every thread reaches");
        drop_ended();
    }
}

template <typename T>
std::string described(T value) {
    if constexpr (std::is_pointer_v<T>) return " p";
    if constexpr (std::is_same_v<T, float>) return " f";
    if constexpr (std::is_same_v<T, double>) return " d";
    if constexpr (std::is_same_v<T, int>) return " i" + std::to_string(value);
    return " ?";
}

inline std::string described(dim3 size) {
    return " " + std::to_string(size.x) + " " + std::to_string(size.y) + " " +
           std::to_string(size.z);
}

template <typename... Parameters, typename... Arguments>
int launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 size,
           size_t shared_bytes, Arguments... arguments) {
    grid_size = grid;
    block_size = size;
    launches += name + described(grid) + described(size) + " " + std::to_string(shared_bytes);
    (launches.append(described(static_cast<Parameters>(arguments))), ...);
    launches += "\n";
    const unsigned threads = size.x * size.y * size.z;
    const bool fits = grid.x >= 1 && grid.x <= 2147483647u && grid.y >= 1 && grid.y <= 65535 &&
                      grid.z >= 1 && grid.z <= 65535 && threads >= 1 && threads <= 1024;
    if (!fits) return 9;                     // cudaErrorInvalidConfiguration
    if (shared_bytes > 48 * 1024) return 1;  // cudaErrorInvalidValue
    block.body = [&] { kernel(arguments...); };
    block.size = size;
    block.threads = static_cast<int>(threads);
    block.exchange.assign(threads, 0u);
    ASAN_UNPOISON_MEMORY_REGION(dynamic_shared, kDynamicSharedBytes);
    ASAN_POISON_MEMORY_REGION(dynamic_shared + shared_bytes, kDynamicSharedBytes - shared_bytes);
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                block_index = {x, y, z};
                std::memset(dynamic_shared, 0xa5, shared_bytes);
                run_block();
            }
        }
    }
    return 0;
}

template <typename... Parameters>
std::index_sequence_for<Parameters...> places_of(void (*)(Parameters...)) {
    return {};
}

template <typename... Parameters, size_t... Places>
int launch_packed(const char* name, void (*kernel)(Parameters...), const unsigned* grid,
                  unsigned threads, unsigned shared_bytes, const void* const* values,
                  const int* sizes, int count, std::index_sequence<Places...>) {
    const int wanted[] = {static_cast<int>(sizeof(Parameters))...};
    if (count != static_cast<int>(sizeof...(Parameters))) fail("a wrong number of arguments");
    for (int i = 0; i < count; ++i) {
        if (sizes[i] != wanted[i]) fail("an argument of the wrong width");
    }
    return launch(name, kernel, dim3(grid[0], grid[1], grid[2]), dim3(threads), shared_bytes,
                  *static_cast<const Parameters*>(values[Places])...);
}

}  // namespace host

// An entry point that launches a kernel as the CUDA driver does: by pointers to its arguments.
#define FOVEATE_HOST_KERNEL(kernel)                                                               \
    extern "C" __attribute__((visibility("default"))) int launch_##kernel(                        \
        const unsigned* grid, unsigned threads, unsigned shared_bytes, const void* const* values, \
        const int* sizes, int count) {                                                            \
        return host::launch_packed(#kernel, kernel, grid, threads, shared_bytes, values, sizes,   \
                                   count, host::places_of(kernel));                                \
    }

#define threadIdx (host::thread_index)
#define blockIdx (host::block_index)
#define blockDim (host::block_size)
#define gridDim (host::grid_size)
#define FOVEATE_DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(host::dynamic_shared)
#define FOVEATE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (static_cast<void>(stream),                                        \
     host::launch(#kernel, kernel, grid, block, shared_bytes, __VA_ARGS__))

inline void __syncthreads() { host::wait(host::State::kBlockBarrier); }
inline void __syncwarp() { host::wait(host::State::kWarpBarrier); }

// Exchange a value with the warp; return the values of all lanes.
inline const unsigned* host_exchange(unsigned value) {
    const int thread = host::block.current->thread;
    host::block.exchange[static_cast<size_t>(thread)] = value;
    __syncwarp();
    return host::block.exchange.data() + thread / 32 * 32;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    const unsigned* lanes = host_exchange(predicate != 0);
    unsigned ballot = 0;
    for (int i = 0; i < 32; ++i) ballot |= lanes[i] << i;
    __syncwarp();
    return ballot;
}
inline unsigned __shfl_sync(unsigned, unsigned value, int lane) {
    const unsigned result = host_exchange(value)[lane & 31];
    __syncwarp();
    return result;
}
inline int __shfl_sync(unsigned mask, int value, int lane) {
    return static_cast<int>(__shfl_sync(mask, static_cast<unsigned>(value), lane));
}
inline float __shfl_xor_sync(unsigned, float value, int distance) {
    const int lane = host::block.current->thread & 31;
    const float result = __uint_as_float(host_exchange(__float_as_uint(value))[lane ^ distance]);
    __syncwarp();
    return result;
}
inline int atomicAdd(int* address, int value) {
    const int old = *address;
    *address = old + value;
    return old;
}
inline int atomicMin(int* address, int value) {
    const int old = *address;
    if (value < old) *address = value;
    return old;
}
inline int atomicMax(int* address, int value) {
    const int old = *address;
    if (value > old) *address = value;
    return old;
}

// The launches since the last call, one per line: kernel, grid, block, dynamic shared bytes, and each
// argument as p (a pointer), f (float), d (double) or i with its value (int).
extern "C" inline __attribute__((used)) const char* host_launches() {
    static std::string told;
    told.swap(host::launches);
    host::launches.clear();
    return told.c_str();
}
