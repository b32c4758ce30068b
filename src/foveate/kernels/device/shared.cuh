// SPDX-License-Identifier: Apache-2.0
// Dynamic shared memory as an array of one type. (The host build brings its own.)
#pragma once

#ifndef FOVEATE_DYNAMIC_SHARED
#define FOVEATE_DYNAMIC_SHARED(type, name)                      \
    extern __shared__ __align__(16) unsigned char all_shared[]; \
    type* name = reinterpret_cast<type*>(all_shared)
#endif
