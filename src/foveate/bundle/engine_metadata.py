# SPDX-License-Identifier: Apache-2.0
"""Metadata of a compiled engine: its sources, its environment, and the shapes that it accepts.

A plan is the file ``engines/<target>/<name>.plan``, which other tools can read too. Its metadata is
the JSON file of the same name next to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.bundle.engine_key import EngineKey, shortened
from foveate.bundle.manifest import FileSpec
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import BackendError, BundleError
from foveate.system.regular_files import file_digest, open_regular

METADATA_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class EngineMetadata:
    """The JSON file next to a plan.

    Args:
        name: Engine name: the stage name, plus image size and bucket for fixed-shape engines
            (``propose-640x480``).
        key: Key of the engine.
        plan: Size and SHA-256 of the plan.
        dispatch: Implementation of each custom operator: ``"plugin"`` or ``"body"``.
        driver: Version of the NVIDIA driver that built the plan, if any; not part of the key.
        device: Name of the GPU that built the plan, if any; not part of the key.
        seconds: Duration of the build.
        layers: Report of TensorRT's engine inspector; None if no driver could load the plan.
    """

    name: str
    key: EngineKey
    plan: FileSpec
    dispatch: dict[str, str]
    driver: str | None
    device: str | None
    seconds: float
    layers: Any = None
    schema: int = METADATA_SCHEMA

    def to_json(self) -> str:
        """Return the text of the JSON file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> EngineMetadata:
        """Parse the text of the JSON file.

        Raises:
            BundleError: The text is invalid, or another version of Foveate wrote it.
        """
        try:
            content = load_json(text)
            if isinstance(content, dict) and content.get("schema") != METADATA_SCHEMA:
                what = f"schema {content.get('schema')!r} found, {METADATA_SCHEMA} expected"
                raise RejectedValueError(what)
            return parse(cls, content)
        except ValueError as error:
            what = f"the metadata of an engine are invalid: {error}"
            raise BundleError(what, remedy=_compile("tensorrt")) from error

    def check_environment(self, *, tensorrt: str, cuda: str, arch: str) -> None:
        """Check that the engine was compiled for this environment.

        Args:
            tensorrt: Version of TensorRT that is to load the engine.
            cuda: Version of CUDA that this TensorRT was built for.
            arch: Compute capability of the GPU, such as ``"sm_89"``.

        Raises:
            BackendError: The engine does not fit; the text names the first difference.
        """
        # A version-compatible engine runs on later versions of the same major release.
        options = self.key.options
        newer = bool(options.get("version_compatible")) and _follows(tensorrt, self.key.tensorrt)
        level = options.get("hardware_compatibility", "none")
        pairs = [
            ("TensorRT", self.key.tensorrt, tensorrt, newer),
            ("CUDA", self.key.cuda, cuda, False),
            ("the GPU", " or ".join(self.key.archs), arch, _fits(arch, self.key.archs, level)),
        ]
        for what, built, found, accepted in pairs:
            if built != found and not accepted:
                raise self._refused(f"was compiled for {what} {built}, found {found}")

    def check_sources(self, *, onnx: str, plugins: str | None) -> None:
        """Check that the engine was compiled from this ONNX file and these plugin sources.

        Args:
            onnx: SHA-256 of the ONNX file.
            plugins: SHA-256 of the plugin sources; None without plugins.

        Raises:
            BackendError: The engine is outdated.
        """
        pairs = (
            ("another ONNX file", self.key.onnx, onnx),
            ("other plugin sources", self.key.plugins, plugins),
        )
        for what, built, found in pairs:
            if built != found:
                expected = f"expected {shortened(found)}, found {shortened(built)}"
                raise self._refused(f"was compiled from {what}, {expected}")

    def check_dispatch(self) -> None:
        """Check that the engine uses the plugin library if and only if it was compiled with it.

        Raises:
            BackendError: An operator has another implementation.
        """
        intended = "body" if self.key.plugins is None else "plugin"
        for op, found in sorted(self.dispatch.items()):
            if found != intended:
                raise self._refused(f"runs {op} by its {found}, expected its {intended}")

    def _refused(self, what: str) -> BackendError:
        return BackendError(f"the engine {self.name!r} {what}", remedy=_compile(self.key.target))


def read_metadata(plan: Path) -> EngineMetadata:
    """Read the metadata of a plan, and check the SHA-256 of the plan.

    Raises:
        BundleError: One of the two files is missing or damaged.
    """
    file = plan.with_suffix(".json")
    again = _compile("tensorrt-rtx" if plan.parent.name == "tensorrt-rtx" else "tensorrt")
    try:
        with open_regular(file) as stream:
            record = EngineMetadata.from_json(stream.read())
        found = file_digest(plan)
    except OSError as error:
        what = f"an engine is incomplete ({error.strerror})"
        raise BundleError(what, file=error.filename, remedy=again) from error
    except BundleError as error:
        raise BundleError(error.what, file=file, remedy=again) from error
    if found != record.plan.sha256:
        raise BundleError(
            f"a plan has changed (SHA-256 {found[:12]}..., expected {record.plan.sha256[:12]}...)",
            file=plan,
            remedy=_compile(record.key.target),
        )
    return record


def _follows(version: str, built: str) -> bool:
    """Return whether a version is later than another one of the same major release."""
    later, earlier = ([int(part) for part in re.findall(r"\d+", one)] for one in (version, built))
    return later[0] == earlier[0] and later > earlier


def _fits(arch: str, built: tuple[str, ...], level: str) -> bool:
    """Return whether a GPU can run an engine built for these capabilities."""
    if level == "ampere+":  # hardware compatibility: the engine avoids features of one architecture
        return int(arch.removeprefix("sm_")) >= 80
    return arch in built


def _compile(target: str) -> str:
    return f"run: foveate compile BUNDLE --target {target}"
