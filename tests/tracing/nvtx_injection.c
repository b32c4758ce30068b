// SPDX-License-Identifier: Apache-2.0
// A tool as NVTX loads it (NVTX_INJECTION64_PATH): it writes ranges to the file FOVEATE_NVTX_LOG, one
// per line. The declarations are those of NVTX 3, as far as they are needed.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLBACKS = 1, CORE2 = 5 };
enum { RANGE_START = 2, RANGE_END = 3, PUSH = 4, POP = 5, REGISTER_STRING = 10, CREATE_DOMAIN = 12 };

typedef struct {
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    int64_t payload;
    int32_t message_type;
    const char* message;  // a registered string, which is ours
} Attributes;

typedef void (*Function)(void);
typedef struct {
    size_t struct_size;
    int (*table_of)(int module, Function*** table, unsigned* size);
} Callbacks;

static FILE* file;
static uint64_t ranges;

static void* keep(void* domain, const char* text) { return strdup(text); }
static void* create(const char* name) { return strdup(name); }
static int push(const char* domain, const Attributes* range) {
    fprintf(file, "push %s: %s of %d\n", domain, range->message, (int)range->payload);
    return fflush(file);
}
static int pop(const char* domain) {
    fprintf(file, "pop %s\n", domain);
    return fflush(file);
}
static uint64_t start(const char* domain, const Attributes* range) {
    fprintf(file, "start %s: %s\n", domain, range->message);
    fflush(file);
    return ++ranges;
}
static void end(const char* domain, uint64_t range) {
    fprintf(file, "end %s: %d\n", domain, (int)range);
    fflush(file);
}

int InitializeInjectionNvtx2(const void* (*export_table)(uint32_t)) {
    const Callbacks* callbacks = export_table(CALLBACKS);
    Function** table;
    unsigned size;
    file = fopen(getenv("FOVEATE_NVTX_LOG"), "a");
    if (file == NULL || !callbacks->table_of(CORE2, &table, &size) || size <= CREATE_DOMAIN) return 0;
    *table[RANGE_START] = (Function)start;
    *table[RANGE_END] = (Function)end;
    *table[PUSH] = (Function)push;
    *table[POP] = (Function)pop;
    *table[REGISTER_STRING] = (Function)keep;
    *table[CREATE_DOMAIN] = (Function)create;
    return 1;
}
