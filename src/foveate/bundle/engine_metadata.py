# SPDX-License-Identifier: Apache-2.0
"""What stands beside a compiled engine: what it was made of, for what, and what it accepts.

A plan is ``engines/<target>/<name>.plan``, raw, so that other tools read it; its record is the JSON
file of the same name beside it. Export writes records, the runtime and ``foveate inspect`` read them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from foveate.bundle.manifest import FileSpec
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import BackendError, BundleError
from foveate.system.files import file_digest, open_regular

RECORD_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ShapeRange:
    """Shapes of one input that an optimisation profile accepts, and the one it is tuned for.

    Of an input that is itself a size, such as that of an image, they are its values.
    """

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Return whether a shape lies within."""
        if len(shape) != len(self.minimum):
            return False
        sides = zip(self.minimum, shape, self.maximum, strict=True)
        return all(low <= side <= high for low, side, high in sides)


Profile = dict[str, ShapeRange]


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """All that decides whether an engine can stand for another.

    Attributes:
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        stage: name of the stage in the bundle.
        onnx: SHA-256 of the stage's ONNX file.
        plugins: SHA-256 of the sources of the plugin library; None without one.
        tensorrt: version of TensorRT.
        cuda: version of CUDA that this TensorRT is made for.
        archs: compute capabilities, such as ``"sm_89"``, sorted.
        options: what the builder was told, by name.
        profiles: the accepted shapes, by input; several if the engine holds several profiles.
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
        """Return the SHA-256 that names this key."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: EngineKey) -> list[str]:
        """Say part by part what this key wants and the other has instead."""
        found = []
        for part in (entry.name for entry in fields(self) if entry.name != "options"):
            ours, theirs = getattr(self, part), getattr(other, part)
            if ours != theirs:
                if part == "profiles":
                    ours, theirs = _describe(ours), _describe(theirs)
                found.append(f"{part}: {_short(theirs)} became {_short(ours)}")
        for name in sorted(self.options.keys() | other.options.keys()):
            ours, theirs = self.options.get(name), other.options.get(name)
            if ours != theirs:
                found.append(f"option {name}: {_short(theirs)} became {_short(ours)}")
        return found


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """The JSON file beside a plan.

    Attributes:
        name: of the engine: the stage's, with the image's size and the bucket of a fixed one.
        key: what the plan was made of.
        plan: size and SHA-256 of the plan.
        dispatch: implementation of each of our operators: ``"plugin"`` or ``"body"``.
        driver: version of the NVIDIA driver that built it; None on a machine without. Not in the key.
        device: name of the GPU that built it, in the same way.
        seconds: that the build took.
        layers: the engine inspector's report; None where no driver could load the plan.
    """

    name: str
    key: EngineKey
    plan: FileSpec
    dispatch: dict[str, str]
    driver: str | None
    device: str | None
    seconds: float
    layers: Any = None
    schema: int = RECORD_SCHEMA

    def to_json(self) -> str:
        """Write as the text of the file beside the plan."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> EngineRecord:
        """Read the text of the file beside a plan.

        Raises:
            BundleError: It is no such text, or of a newer version of Foveate.
        """
        try:
            content = load_json(text)
            if isinstance(content, dict) and content.get("schema") != RECORD_SCHEMA:
                raise RejectedValueError(
                    f"schema {content.get('schema')!r} found, {RECORD_SCHEMA} expected"
                )
            return parse(cls, content)
        except ValueError as error:
            raise BundleError(
                f"the record of an engine is invalid: {error}", remedy=_compile("tensorrt")
            ) from error

    def profile_for(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Return the number of the first profile that accepts these shapes of the inputs.

        Raises:
            BackendError: There is none; the text names the first input that does not fit.
        """
        for number, profile in enumerate(self.key.profiles):
            if all(profile[name].holds(shape) for name, shape in shapes.items()):
                return number
        name, shape = next(
            (name, shape)
            for name, shape in shapes.items()
            if len(shapes) == 1 or not any(one[name].holds(shape) for one in self.key.profiles)
        )
        wanted = " or ".join(_span(profile[name]) for profile in self.key.profiles)
        raise BackendError(
            f"the engine {self.name!r} takes {name!r} as {wanted}, found {_by(shape)}",
            remedy=f"{_compile(self.key.target)} with a wider --range or this --image-size",
        )

    def check_environment(self, *, tensorrt: str, cuda: str, arch: str) -> None:
        """Refuse an engine that was compiled for something else.

        Args:
            tensorrt: version of TensorRT that is to load it.
            cuda: version of CUDA that this TensorRT is made for.
            arch: compute capability of the GPU, such as ``"sm_89"``.

        Raises:
            BackendError: It does not fit; the text says what was expected and found.
        """
        newer = bool(self.key.options.get("version_compatible")) and _follows(
            tensorrt, self.key.tensorrt
        )
        level = self.key.options.get("hardware_compatibility", "none")
        pairs = [
            ("TensorRT", self.key.tensorrt, tensorrt, newer),
            ("CUDA", self.key.cuda, cuda, False),
            ("the GPU", " or ".join(self.key.archs), arch, _fits(arch, self.key.archs, level)),
        ]
        for what, built, found, accepted in pairs:
            if built != found and not accepted:
                raise BackendError(
                    f"the engine {self.name!r} was compiled for {what} {built}, found {found}",
                    remedy=_compile(self.key.target),
                )

    def check_sources(self, *, onnx: str, plugins: str | None) -> None:
        """Refuse an engine made of another ONNX file or other plugin sources, both by SHA-256.

        Raises:
            BackendError: It is stale.
        """
        pairs = (
            ("another ONNX file", self.key.onnx, onnx),
            ("other plugin sources", self.key.plugins, plugins),
        )
        for what, built, found in pairs:
            if built != found:
                raise BackendError(
                    f"the engine {self.name!r} was compiled from {what}, expected "
                    f"{_short(found)}, found {_short(built)}",
                    remedy=_compile(self.key.target),
                )


def read_record(plan: Path) -> EngineRecord:
    """Read the record beside a plan, and check that the plan is the one that it describes.

    Raises:
        BundleError: One of the two is missing or damaged.
    """
    file = plan.with_suffix(".json")
    again = _compile("tensorrt-rtx" if plan.parent.name == "tensorrt-rtx" else "tensorrt")
    try:
        with open_regular(file) as stream:
            record = EngineRecord.from_json(stream.read())
        found = file_digest(plan)
    except OSError as error:
        raise BundleError(
            f"an engine is incomplete ({error.strerror})",
            file=error.filename,
            remedy=again,
        ) from error
    except BundleError as error:
        raise BundleError(error.what, file=file, remedy=again) from error
    if found != record.plan.sha256:
        raise BundleError(
            f"a plan was changed (SHA-256 {found[:12]}..., expected {record.plan.sha256[:12]}...)",
            file=plan,
            remedy=_compile(record.key.target),
        )
    return record


def _follows(version: str, built: str) -> bool:
    """Tell whether a version is a later one of the same major release."""
    later, earlier = ([int(part) for part in re.findall(r"\d+", one)] for one in (version, built))
    return later[0] == earlier[0] and later > earlier


def _fits(arch: str, built: tuple[str, ...], level: str) -> bool:
    """Tell whether a GPU can run an engine of these capabilities at a level of compatibility."""
    if level == "ampere+":
        return int(arch.removeprefix("sm_")) >= 80
    return arch in built


def _compile(target: str) -> str:
    return f"run: foveate compile BUNDLE --target {target}"


def _span(one: ShapeRange) -> str:
    if one.minimum == one.maximum:
        return _by(one.minimum)
    return f"{_by(one.minimum)} to {_by(one.maximum)}"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _describe(profiles: tuple[Profile, ...]) -> str:
    """Say the bounds of the first input, which the others follow, of each profile."""
    first = [next(iter(profile.items())) for profile in profiles if profile]
    words = [f"{name} {_by(one.minimum)}..{_by(one.maximum)}" for name, one in first]
    return ", ".join(words) or "none"


def _short(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
