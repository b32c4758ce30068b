# SPDX-License-Identifier: Apache-2.0
"""Small faults that a source of kernels may have, and a random order of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from foveate.kernels.build import FOLDER

# Pattern and replacement of each change, by kind.
CHANGES = {
    "operator": [
        (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" % ", " / "),
        (r" && ", " || "), (r" \|\| ", " && "), (r" == ", " != "), (r" != ", " == "),
        (r" \|= ", " &= "), (r" \+= ", " -= "), (r"\badd\(", "mul("), (r"\bmul\(", "add("),
    ],
    "bound": [
        (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
        (r"\bsmaller\(", "larger("), (r"\blarger\(", "smaller("),
    ],
    "barrier": [(r"__syncthreads\(\);", ""), (r"__syncwarp\(\);", "")],
    "index": [
        (r"(?<=[ (\[])0(?=[,;)\] ])", "1"), (r"(?<=[ (])1(?=[,;) ])", "2"),
        (r"(?<=[ (])2(?= \*)", "3"), (r"threadIdx\.x", "(threadIdx.x + 1)"),
    ],
    "rounding": [
        (r"\bfloorf\(", "ceilf("), (r"\bceilf\(", "floorf("), (r"\brintf\(", "floorf("),
        (r"\bfloor\(", "ceil("), (r"\bround_half_away\(", "floorf("), (r">= 0\.5f", "> 0.5f"),
    ],
}  # fmt: skip
# Lines that only the host, the compiler or a launch without threads to spare sees.
SKIPPED = re.compile(r"^\s*(//|#|template|constexpr|extern|using|static_assert)|__launch_bounds__")


@dataclass(frozen=True)
class Mutant:
    """One change of one line.

    `text` is the hash of the source it was made of, `repeat` counts equal changes of equal lines of
    a source, `reason` says why a survivor is no gap in the tests.
    """

    source: str
    line: int
    kind: str
    before: str
    after: str
    text: str
    repeat: int = 0
    fate: str = ""
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Identity of the mutant, independent of where its line stands."""
        return self.source, self.text, self.before, self.after, self.repeat

    def write(self, file: Path) -> None:
        """Put the change into a copy of its source."""
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[self.line - 1].strip() == self.before, f"{file}: edited meanwhile"
        lines[self.line - 1] = self.after
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@cache
def digest_of(source: str) -> str:
    """Return the start of the hash of a source."""
    return hashlib.sha256((FOLDER / source).read_bytes()).hexdigest()[:12]


def candidates(source: str) -> Iterator[Mutant]:
    """Every change of a source."""
    seen: Counter[tuple[str, str]] = Counter()
    text = (FOLDER / source).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.partition("//")[0]
        if SKIPPED.match(code) or "#define" in code or code.rstrip().endswith("\\"):
            continue
        for kind, changes in CHANGES.items():
            for pattern, replacement in changes:
                for found in re.finditer(pattern, code):
                    changed = code[: found.start()] + replacement + code[found.end() :]
                    words = line.strip(), changed.strip()
                    yield Mutant(source, number, kind, *words, digest_of(source), seen[words])
                    seen[words] += 1


def draw(users: Callable[[str], list[Path]], seed: int) -> list[Mutant]:
    """Return the changes of all sources that kernels use, shuffled.

    The few that touch a barrier or a rounding come first.

    The place of each depends on the seed and its own words only, so that an edited source moves no
    mutant of another one.
    """
    sources = [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.rglob("*.cuh"))]
    found = [mutant for source in sources if users(source) for mutant in candidates(source)]

    def place(mutant: Mutant) -> tuple[bool, str]:
        words = f"{seed} {mutant.source} {mutant.before} {mutant.after} {mutant.repeat}"
        return mutant.kind not in ("barrier", "rounding"), hashlib.sha256(
            words.encode()
        ).hexdigest()

    return sorted(found, key=place)
