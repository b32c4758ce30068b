# SPDX-License-Identifier: Apache-2.0
"""One instruction run on arrays: a kernel in PTX that loads, computes and stores."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.launch import Kernel, launch
from tests.simulated_gpu.ptx.memory import Array, Memory
from tests.simulated_gpu.ptx.parser import parse
from tests.simulated_gpu.ptx.variables import SIZES

PRELUDE = ".version 9.0\n.target sm_90\n.address_size 64\n"


def ptx_kernel(parameters: int, body: str) -> Kernel:
    """Return a kernel `k` of 64-bit parameters `p0`, `p1`, ... with some registers of each kind."""
    listed = ", ".join(f".param .u64 p{i}" for i in range(parameters))
    registers = (
        ".reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; .reg .b64 %d<32>; .reg .f32 %f<16>;"
    )
    return Kernel(parse(f"{PRELUDE}.visible .entry k({listed})\n{{\n{registers}\n{body}\n}}"), "k")


def evaluate(instruction: str, kinds: str, *inputs: Array) -> Array:
    """Run an instruction, one thread per element.

    Args:
        instruction: Without operands, or with `{0}` (the result), `{1}`, `{2}`, ... for them.
        kinds: Types of the result and of the operands, as "u32 s32 s32".
        inputs: (elements,) for each operand.
    """
    to, *sources = kinds.split()
    if "{0}" not in instruction:
        instruction += " " + ", ".join(f"{{{i}}}" for i in range(len(inputs) + 1))
    lines = ["mov.u32 %r0, %tid.x;"]
    names = []
    for i, kind in enumerate(sources, start=1):
        name = f"%{_letter(kind)}{i}"
        size = SIZES[kind]
        lines += [
            f"ld.param.u64 %d20, [p{i}];",
            f"mul.wide.u32 %d21, %r0, {size};",
            "add.s64 %d20, %d20, %d21;",
            f"ld.global.b{8 * size} {name}, [%d20];",
        ]
        names.append(name)
    result = f"%{_letter(to)}10"
    size = SIZES[to]
    lines += [
        instruction.format(result, *names) + ";",
        "ld.param.u64 %d20, [p0];",
        f"mul.wide.u32 %d21, %r0, {size};",
        "add.s64 %d20, %d20, %d21;",
        f"st.global.b{8 * size} [%d20], {result};",
        "ret;",
    ]
    kernel = ptx_kernel(1 + len(inputs), "\n".join(lines))
    memory = Memory(1 << 20)
    dtype = {"f16": "f2", "f32": "f4", "f64": "f8"}.get(
        to
    ) or f"{'i' if to[0] == 's' else 'u'}{size}"
    output = memory.empty(inputs[0].shape, np.dtype(dtype), "output")
    uploads = [memory.upload(array, f"input {i}") for i, array in enumerate(inputs)]
    launch(kernel, memory, 1, len(inputs[0]), [output, *uploads])
    return output.array.copy()


def _letter(kind: str) -> str:
    return {1: "h", 2: "h", 4: "r", 8: "d"}[SIZES[kind]]
