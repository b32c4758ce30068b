# SPDX-License-Identifier: Apache-2.0
"""Instructions by class, for counting."""

from __future__ import annotations

from tests.simulated_gpu.ptx.parser import Instruction

_CLASSES = {
    "control": ("bra", "brx", "ret", "exit", "bar", "barrier", "membar", "fence", "trap"),
    "warp": ("shfl", "vote", "match", "redux", "activemask"),
    "atomic": ("atom", "red"),
    "convert": ("cvt", "cvta"),
    "move": ("mov", "selp", "prmt"),
    "compare": ("setp", "set"),
    "special": ("div", "rem", "sqrt", "rsqrt", "rcp", "ex2", "lg2", "sin", "cos", "tanh"),
}
_CLASS_OF = {opcode: name for name, opcodes in _CLASSES.items() for opcode in opcodes}
SPACES = ("global", "shared", "local", "param", "const")


def class_of(instruction: Instruction) -> str:
    """Return "global load", "shared store", "fma", "float", "half", "double", "integer", ..."""
    opcode, suffixes = instruction.opcode, instruction.suffixes
    if opcode in ("ld", "ldu", "st", "cp"):
        space = next((s for s in suffixes if s in SPACES), "generic")
        return f"{space} {'store' if opcode == 'st' else 'load'}"
    if opcode in _CLASS_OF:
        return _CLASS_OF[opcode]
    kind = suffixes[-1] if suffixes else ""
    if kind in ("f32", "f64", "f16", "f16x2"):
        name = {"f32": "float", "f64": "double"}.get(kind, "half")
        return "fma" if opcode in ("fma", "mad") and kind == "f32" else name
    return "integer"
