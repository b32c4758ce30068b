# SPDX-License-Identifier: Apache-2.0
"""PTX text as data: variables, and for each kernel its parameters, registers and instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod

from tests.simulated_gpu.ptx.operands import Operand, parse_operands
from tests.simulated_gpu.ptx.variables import Variable, parse_variable, place

MOST_THREADS = re.compile(r"\.(?:max|req)ntid\s+([\d, ]+)")
ENTRY = re.compile(r"\.(entry|func)\s+(?:\([^)]*\)\s*)?([$\w]+)\s*(?:\((.*?)\))?", re.DOTALL)
LABEL = re.compile(r"\s*([$%\w]+)\s*:(?!:)")
LOC = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)")
FILE = re.compile(r'\s*\.file\s+(\d+)\s+"([^"]*)"')
REGISTER = re.compile(r"([%$\w]+)(?:<(\d+)>)?")
# Parts of a line at which a statement may end.
MARKS = re.compile(r"([;{}])")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Args:
        opcode: The part before the first dot.
        suffixes: The parts after it.
        operands: In the order of the text, the destination first.
        guard: The predicate register that switches it on, or none; only jumps have one.
        guard_negated: Whether it is on where the predicate is false.
        line: In the PTX text, from 1.
        text: As written, in one line.
        source: Number of the source file and line of `.loc`; zeros if unknown.
    """

    opcode: str
    suffixes: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str | None
    guard_negated: bool
    line: int
    text: str
    source: tuple[int, int]


@dataclass
class KernelText:
    """One kernel; `labels` maps a name to the index of the instruction behind it.

    `most_threads` are those of a block that its launch bounds allow.
    """

    name: str
    most_threads: int = 1024
    parameters: dict[str, Variable] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Variable] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass
class ModuleText:
    """A PTX file."""

    target: str = ""
    files: dict[int, str] = field(default_factory=dict)
    shared: dict[str, Variable] = field(default_factory=dict)
    kernels: dict[str, KernelText] = field(default_factory=dict)


def parse(text: str) -> ModuleText:
    """Parse the output of nvcc or NVRTC."""
    module = ModuleText()
    reader = _Reader(module)
    for number, line in enumerate(_without_comments(text).splitlines(), start=1):
        if found := FILE.match(line):
            module.files[int(found[1])] = found[2]
        elif line.startswith(".target"):
            module.target = line.split()[1].rstrip(",")
        elif not line.startswith((".version", ".address_size")):
            reader.line(line, number)
    return module


def _without_comments(text: str) -> str:
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)


class _Reader:
    """Collects lines into statements and sorts these into kernels."""

    def __init__(self, module: ModuleText) -> None:
        self._module = module
        self._kernel: KernelText | None = None
        self._buffer = ""
        self._start = 0
        self._depth = 0  # of braces inside a statement or a skipped section
        self._source = (0, 0)
        self._scopes: list[dict[str, str]] = []
        self._renamed = 0

    def line(self, line: str, number: int) -> None:
        if found := LOC.match(line):
            self._source = int(found[1]), int(found[2])
            return
        for part in MARKS.split(line + " "):
            self._part(part, number)

    def _part(self, part: str, number: int) -> None:
        if part == ";" and self._depth == 0:
            self._statement(" ".join(self._buffer.split()))
            self._buffer = ""
        elif part == "{" and self._depth == 0 and self._opens(self._buffer.strip()):
            self._buffer = ""
        elif part == "}" and self._depth == 0 and not self._buffer.strip():
            self._scopes.pop()
            if not self._scopes:
                self._kernel = None
        else:
            self._depth += (part == "{") - (part == "}")
            if not self._buffer.strip():
                self._start = number
            self._buffer += part
            self._labels()
            if self._depth == 0 and self._buffer.lstrip().startswith(".section") and part == "}":
                self._buffer = ""

    def _opens(self, head: str) -> bool:
        """Return whether a brace opens a scope, and open it."""
        if self._kernel is None:
            found = ENTRY.search(head)
            if found is None:
                return False
            self._kernel = KernelText(found[2], shared=dict(self._module.shared))
            if bounds := MOST_THREADS.search(head):
                self._kernel.most_threads = prod(map(int, bounds[1].split(",")))
            if found[1] == "entry":
                self._module.kernels[found[2]] = self._kernel
            for text in filter(None, map(str.strip, (found[3] or "").split(","))):
                place(parse_variable(text), self._kernel.parameters)
            self._scopes = [{}]
            return True
        if head:
            return False
        self._scopes.append({})
        return True

    def _labels(self) -> None:
        while self._kernel is not None and self._depth == 0:
            found = LABEL.match(self._buffer)
            if found is None or "." in found[1]:
                return
            self._kernel.labels[found[1]] = len(self._kernel.instructions)
            self._buffer = self._buffer[found.end() :]

    def _statement(self, text: str) -> None:
        kernel = self._kernel
        if kernel is None:
            self._module_statement(text)
        elif text.startswith(".reg"):
            self._declare(kernel, text)
        elif text.startswith(".shared"):
            place(parse_variable(text), kernel.shared)
        elif text.startswith(".local"):
            raise ValueError(f"local memory: {text}")
        elif text and not text.startswith("."):
            kernel.instructions.append(self._instruction(text))

    def _module_statement(self, text: str) -> None:
        while text.startswith((".visible", ".extern", ".weak", ".common")):
            text = text.split(maxsplit=1)[1]
        # Variables in other spaces are constants that no instruction names.
        if text.startswith(".shared"):
            place(parse_variable(text), self._module.shared)

    def _declare(self, kernel: KernelText, text: str) -> None:
        _, kind, names = text.split(maxsplit=2)
        for entry in names.split(","):
            found = REGISTER.match(entry.strip())
            assert found is not None, text
            names_here = (
                [f"{found[1]}{i}" for i in range(int(found[2]))] if found[2] else [found[1]]
            )
            for name in names_here:
                unique = name
                if len(self._scopes) > 1:
                    self._renamed += 1
                    unique = f"{name}@{self._renamed}"
                self._scopes[-1][name] = unique
                kernel.registers[unique] = kind.lstrip(".")

    def _register(self, name: str) -> str | None:
        """Return the unique name of a register that is visible here."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _instruction(self, text: str) -> Instruction:
        head, guard, negated = text, None, False
        if text.startswith("@"):
            mark, head = text.split(maxsplit=1)
            negated = mark.startswith("@!")
            guard = self._register(mark.lstrip("@!"))
        name, _, rest = head.partition(" ")
        opcode, *suffixes = name.split(".")
        operands = parse_operands(rest, self._register)
        return Instruction(
            opcode, tuple(suffixes), operands, guard, negated, self._start, text, self._source
        )
