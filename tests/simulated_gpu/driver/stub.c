/* SPDX-License-Identifier: Apache-2.0
 *
 * libcuda.so.1 for a process without a GPU. Each entry point calls a function that is written in
 * Python and set through ctypes (library.py). NAMES(X) is generated there.
 *
 * The arguments of the driver API are integers and pointers, at most eleven, so that one type of
 * function serves all entry points (x86-64 and AArch64). An entry point may be called while a
 * Python exception is on its way, by the destructor of an object, with or without the GIL.
 */
#include <Python.h>
#include "names.h"

typedef int (*Entry)(long, long, long, long, long, long, long, long, long, long, long);

#if PY_VERSION_HEX < 0x030D0000
#define Py_IsFinalizing _Py_IsFinalizing
#endif

static int missing(void) { return 801; } /* CUDA_ERROR_NOT_SUPPORTED */

static int guarded(Entry to, long a, long b, long c, long d, long e, long f, long g, long h, long i,
                   long j, long k) {
    if (!Py_IsInitialized() || Py_IsFinalizing()) return 0; /* the process ends: all is released */
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    const int status = to(a, b, c, d, e, f, g, h, i, j, k);
    PyErr_Restore(type, value, trace);
    PyGILState_Release(state);
    return status;
}

#define ENTRY(name)                                                                             \
    static Entry to_##name = (Entry)missing;                                                    \
    int name(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j,    \
             long k) {                                                                          \
        return guarded(to_##name, a, b, c, d, e, f, g, h, i, j, k);                             \
    }
NAMES(ENTRY)

void simulated_set(const char *name, void *function) {
#define SET(one) \
    if (!strcmp(name, #one)) to_##one = (Entry)function;
    NAMES(SET)
}
