# SPDX-License-Identifier: Apache-2.0
"""The identity of a compiled engine: two engines with equal keys are interchangeable."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from math import inf, log, prod
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ShapeRange:
    """Shapes of one input that an optimization profile accepts, and the one it is tuned for.

    For an input that is itself a size, such as that of an image, these are its values.
    """

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def contains(self, shape: tuple[int, ...]) -> bool:
        """Return whether a shape lies in the range."""
        return self.distance(shape) == 0

    def distance(self, shape: tuple[int, ...]) -> float:
        """Return how far a shape lies outside, as the sum of the logarithms of all factors."""
        if len(shape) != len(self.minimum):
            return inf
        sides = zip(self.minimum, shape, self.maximum, strict=True)
        return sum(abs(log(side / min(max(side, low), high))) for low, side, high in sides)

    def size(self) -> int:
        """Return the number of shapes in the range."""
        sides = zip(self.minimum, self.maximum, strict=True)
        return prod(high - low + 1 for low, high in sides)

    def __str__(self) -> str:
        ends = _by(self.minimum), _by(self.maximum)
        return ends[0] if ends[0] == ends[1] else " to ".join(ends)


Profile = dict[str, ShapeRange]


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """All properties that determine whether one engine can replace another.

    Args:
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        stage: Name of the stage in the bundle.
        onnx: SHA-256 of the ONNX file of the stage.
        plugins: SHA-256 of the sources of the plugin library; None without a library.
        tensorrt: Version of TensorRT.
        cuda: Version of CUDA that TensorRT was built for.
        archs: Compute capabilities such as ``"sm_89"``, sorted.
        options: Options of the builder by name.
        profiles: Accepted shapes by input, one mapping per optimization profile.
    """

    target: str
    stage: str
    onnx: str
    plugins: str | None
    tensorrt: str
    cuda: str
    archs: tuple[str, ...]
    options: dict[str, Any]
    profiles: tuple[dict[str, ShapeRange], ...]

    def digest(self) -> str:
        """Return the SHA-256 of this key, which names its engine in the cache."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: EngineKey) -> list[str]:
        """Describe each part in which another key differs from this one."""
        found = []
        for part in (entry.name for entry in fields(self) if entry.name != "options"):
            ours, theirs = getattr(self, part), getattr(other, part)
            if ours != theirs:
                if part == "profiles":
                    ours, theirs = _describe(ours), _describe(theirs)
                found.append(f"{part}: {shortened(theirs)} became {shortened(ours)}")
        for name in sorted(self.options.keys() | other.options.keys()):
            ours, theirs = self.options.get(name), other.options.get(name)
            if ours != theirs:
                found.append(f"option {name}: {shortened(theirs)} became {shortened(ours)}")
        return found


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _describe(profiles: tuple[Profile, ...]) -> str:
    """Return the bounds of the first input of each profile; the other inputs follow it."""
    first = [next(iter(profile.items())) for profile in profiles if profile]
    words = [f"{name} {_by(one.minimum)}..{_by(one.maximum)}" for name, one in first]
    return ", ".join(words) or "none"


def shortened(value: object) -> str:
    """Return the text of a value, or only the first digits of a digest."""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
