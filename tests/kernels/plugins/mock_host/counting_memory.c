// SPDX-License-Identifier: Apache-2.0
// Counts the allocations of a thread between two calls, and the large ones of the whole process.
// Preloaded (LD_PRELOAD), these functions replace those of glibc, which NumPy, OpenCV and operator new
// call. The small ones of a process are mostly Python's objects, whose number is not the same in each run.
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>

#define LARGE (128 * 1024)

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static __thread int counting, count;
static atomic_ullong large, large_bytes;

static void note(size_t size) {
    count += counting;
    if (size >= LARGE) {
        large++;
        large_bytes += size;
    }
}

unsigned long long large_allocations(void) { return large; }
unsigned long long large_allocated_bytes(void) { return large_bytes; }

void counting_begin(void) { counting = 1, count = 0; }
int counting_end(void) {
    counting = 0;
    return count;
}

void* malloc(size_t size) {
    note(size);
    return __libc_malloc(size);
}
void* calloc(size_t items, size_t size) {
    note(items * size);
    return __libc_calloc(items, size);
}
void* realloc(void* old, size_t size) {
    note(size);
    return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
    note(size);
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
    note(size);
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** found, size_t alignment, size_t size) {
    note(size);
    *found = __libc_memalign(alignment, size);
    return *found == NULL ? 12 : 0;
}
