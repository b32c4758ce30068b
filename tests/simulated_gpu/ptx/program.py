# SPDX-License-Identifier: Apache-2.0
"""A kernel prepared to run: basic blocks of bound instructions, with the registers they use.

Only what the compilers make of our kernels is known; any other instruction is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx.faults import UnknownInstructionError
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.operands import Operand
from tests.simulated_gpu.ptx.parser import Instruction, KernelText, ModuleText
from tests.simulated_gpu.ptx.variables import SIZES, Variable

Run = Callable[[Frame], None]

JUMPS = ("bra", "ret")
BARRIERS = ("bar", "barrier")
# Instructions that access neither memory nor another thread may carry undefined values.
IMPURE = ("ld", "st", "atom", "vote", "bar", "barrier")

_HANDLERS: dict[str, Callable[[Instruction, Program], Run]] = {}


@dataclass(frozen=True)
class Bound:
    """An instruction with its function; `sources` and `targets` are names of registers."""

    instruction: Instruction
    run: Run
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    pure: bool


@dataclass
class Block:
    """Instructions without a jump except at the end; `uses` are read before they are written."""

    index: int
    body: list[Bound] = field(default_factory=list)
    jump: Instruction | None = None
    successors: tuple[int, ...] = ()
    uses: set[str] = field(default_factory=set)
    defines: set[str] = field(default_factory=set)
    live_out: set[str] = field(default_factory=set)

    @cached_property
    def waits(self) -> Instruction | None:
        """The instruction, always the first, for which threads wait for each other."""
        return self.body[0].instruction if self.body and is_sync(self.body[0].instruction) else None


@dataclass
class Program:
    """A kernel. `symbols` holds the variables it may name, their offsets in place."""

    module: ModuleText
    text: KernelText
    symbols: dict[str, Variable]
    shared_size: int
    shared_grain: int
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.text.name

    def dtype(self, register: str) -> np.dtype[Any]:
        """How a register is stored."""
        kind = self.text.registers[register]
        return np.dtype(bool) if kind == "pred" else np.dtype(f"u{SIZES[kind]}")

    def place(self, instruction: Instruction) -> str:
        """Describe where an instruction stands."""
        file, line = instruction.source
        name = self.module.files.get(file, "").rpartition("/")[2]
        source = f"{name}:{line}, " if name and line else ""
        return f"`{instruction.text}` ({source}PTX line {instruction.line}, {self.module.target})"


def handler(
    *opcodes: str,
) -> Callable[[Callable[[Instruction, Program], Run]], Callable[[Instruction, Program], Run]]:
    """Register a function that binds instructions of these opcodes."""

    def register(
        bind: Callable[[Instruction, Program], Run],
    ) -> Callable[[Instruction, Program], Run]:
        for opcode in opcodes:
            _HANDLERS[opcode] = bind
        return bind

    return register


def is_sync(instruction: Instruction) -> bool:
    """Return whether threads wait for each other here."""
    return instruction.opcode in BARRIERS or "sync" in instruction.suffixes


def build_program(module: ModuleText, name: str, dynamic_shared: int = 0) -> Program:
    """Bind the instructions of a kernel.

    Args:
        module: Parsed PTX.
        name: Of the kernel.
        dynamic_shared: Bytes of shared memory that the launch adds behind the kernel's own.

    Raises:
        UnknownInstructionError: One that the interpreter lacks; nothing was run.
    """
    text = module.kernels[name]
    static = [v for v in text.shared.values() if v.size]
    shared = max((v.offset + v.size for v in static), default=0)
    if dynamic_shared:
        shared = -(-shared // 16) * 16
    symbols = {**text.parameters, **text.shared}
    for variable in text.shared.values():
        if not variable.size:  # the array that the launch gives its length
            symbols[variable.name] = Variable(variable.name, "shared", 0, 16, shared)
    program = Program(module, text, symbols, shared + dynamic_shared, _grain(text))
    _split(program)
    _find_live(program.blocks)
    return program


def _grain(text: KernelText) -> int:
    """Smallest access to memory that may be shared."""
    sizes = [
        SIZES[suffix]
        for instruction in text.instructions
        if instruction.opcode in ("ld", "st", "atom")
        for suffix in instruction.suffixes[-1:]
        if "shared" in instruction.suffixes
        or not {"global", "param"}.intersection(instruction.suffixes)
    ]
    return min([4, *sizes])


def _split(program: Program) -> None:
    text = program.text
    starts = {0, *text.labels.values()}
    for i, instruction in enumerate(text.instructions):
        if instruction.opcode in JUMPS:
            starts.add(i + 1)
        if is_sync(instruction):
            starts.add(i)
    bounds = sorted(start for start in starts if start < len(text.instructions))
    index_of = {start: i for i, start in enumerate(bounds)}
    end = len(text.instructions)
    for i, (start, stop) in enumerate(zip(bounds, [*bounds[1:], end], strict=True)):
        block = Block(i)
        for instruction in text.instructions[start:stop]:
            if instruction.opcode in JUMPS:
                block.jump = instruction
            else:
                block.body.append(_bind(instruction, program))
        block.successors = _successors(block, program, index_of, i + 1, len(bounds))
        program.blocks.append(block)


def _successors(
    block: Block, program: Program, index_of: dict[int, int], following: int, count: int
) -> tuple[int, ...]:
    """Targets of the jump, then, where it may fall through, the next block."""
    jump, labels = block.jump, program.text.labels
    targets: list[int] = []
    if jump is not None and jump.opcode == "bra":
        targets.append(index_of.get(labels[jump.operands[0].name], count))
    if jump is None or jump.guard is not None:
        targets.append(following)
    return tuple(targets)


def _names(operand: Operand) -> list[str]:
    if operand.kind == "register" or (operand.kind == "address" and operand.name):
        return [operand.name]
    return [name for item in operand.items for name in _names(item)]


def _bind(instruction: Instruction, program: Program) -> Bound:
    bind = _HANDLERS.get(instruction.opcode)
    if bind is None or instruction.guard is not None:  # compilers guard jumps only
        raise UnknownInstructionError(
            f"{program.name}: {program.place(instruction)}: unknown opcode"
        )
    try:
        run = bind(instruction, program)
    except (KeyError, ValueError, IndexError) as error:
        raise UnknownInstructionError(
            f"{program.name}: {program.place(instruction)}: unknown form ({error})"
        ) from error
    registers = program.text.registers
    has_target = instruction.opcode != "st" and instruction.operands[:1] != ()
    if has_target and instruction.operands[0].kind in ("address", "number", "symbol"):
        has_target = False
    targets = _names(instruction.operands[0]) if has_target else []
    others = instruction.operands[1:] if has_target else instruction.operands
    sources = [name for operand in others for name in _names(operand)]
    return Bound(
        instruction,
        run,
        tuple(name for name in sources if name in registers),
        tuple(name for name in targets if name in registers),
        instruction.opcode not in IMPURE,
    )


def _find_live(blocks: list[Block]) -> None:
    for block in blocks:
        for bound in block.body:
            block.uses |= set(bound.sources) - block.defines
            block.defines |= set(bound.targets)
        if block.jump is not None:
            names = {n for operand in block.jump.operands[:1] for n in _names(operand)}
            names |= {block.jump.guard} if block.jump.guard else set()
            block.uses |= names - block.defines
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            live: set[str] = set()
            for index in block.successors:
                if index < len(blocks):
                    after = blocks[index]
                    live |= after.uses | (after.live_out - after.defines)
            if live != block.live_out:
                block.live_out = live
                changed = True
