// SPDX-License-Identifier: Apache-2.0
// Counts the allocations and waits of a program between two calls. Preloaded (LD_PRELOAD), these
// functions replace those of glibc, which operator new calls as well.
#define _GNU_SOURCE
#include <stddef.h>
#include <time.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static __thread int counting, count;

void counting_begin(void) { counting = 1, count = 0; }
int counting_end(void) {
    counting = 0;
    return count;
}

void* malloc(size_t size) {
    count += counting;
    return __libc_malloc(size);
}
void* calloc(size_t items, size_t size) {
    count += counting;
    return __libc_calloc(items, size);
}
void* realloc(void* old, size_t size) {
    count += counting;
    return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
    count += counting;
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
    count += counting;
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** found, size_t alignment, size_t size) {
    count += counting;
    *found = __libc_memalign(alignment, size);
    return *found == NULL ? 12 : 0;
}
