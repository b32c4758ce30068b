# SPDX-License-Identifier: Apache-2.0
"""What the process that builds an engine is told. It goes there, and is read there, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.schema import parse


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One engine to build.

    Attributes:
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        stage: its name, for messages.
        onnx: path of the ONNX file.
        plan: path that the plan is written to.
        archs: compute capabilities; ignored by a target that builds for the GPU of this machine.
        profiles: accepted shapes, by input, once a profile.
        options: see `CompileOptions.builder_options`.
        timing_cache: path of the file of measured kernels.
        plugins: path of the plugin library.
        report: load the plan when it is built and report its layers; needs a driver.
    """

    target: str
    stage: str
    onnx: str
    plan: str
    archs: tuple[str, ...]
    profiles: tuple[dict[str, ShapeRange], ...]
    options: dict[str, Any]
    timing_cache: str | None
    plugins: str | None
    report: bool

    def to_json(self) -> str:
        """Write as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BuildRequest:
        """Read what `to_json` wrote."""
        return parse(cls, json.loads(text))
