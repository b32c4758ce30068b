// SPDX-License-Identifier: Apache-2.0
// The requests of a program to callgrind, which Python calls through ctypes.
#include <valgrind/callgrind.h>

void counting_begin(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}
void counting_end(const char* name) {
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
