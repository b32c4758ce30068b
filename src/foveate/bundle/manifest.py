# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: the content of ``manifest.json`` as typed and checked values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from foveate.bundle.presets import PresetSpec
from foveate.bundle.pyramid import PyramidSpec
from foveate.bundle.schema import RejectedValueError, load_json, parse, require
from foveate.bundle.source import SourceSpec
from foveate.errors import BundleError

SCHEMA = 1
STAGES = ("propose", "refine", "features", "classify", "paste")
REQUIRED_STAGES = ("propose", "refine")

# Limits for hostile manifests. Each is far above every network here; together they keep the memory
# for a small image below a few hundred MB.
_LONGEST = 1 << 24
_MOST_MASKS = 1 << 28  # pixels of the masks of all windows
_MOST_LOGITS = 1 << 25  # windows times classes
_MOST_STRIDE = 1024


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A named input or output of a stage.

    A dimension is a number, or a name if it varies. An output that is a map of the stage's image,
    (1, channels, rows, columns), has a ``stride``: pixels of the image, or of the level, per cell.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    stride: int | None = None

    def __post_init__(self) -> None:
        in_range = all(1 <= side <= _LONGEST for side in self.shape if isinstance(side, int))
        require(len(self.shape) <= 8, "shape must have at most 8 dimensions")
        require(in_range, f"the numbers of shape must lie in 1..{_LONGEST}")
        stride_in_range = self.stride is None or 1 <= self.stride <= _MOST_STRIDE
        require(stride_in_range, f"stride must lie in 1..{_MOST_STRIDE}")

    def __str__(self) -> str:
        return f"{self.name} of {self.dtype} ({', '.join(map(str, self.shape))})"

    @property
    def has_rows(self) -> bool:
        """Whether the first length varies: it is the number of windows or regions."""
        return bool(self.shape) and isinstance(self.shape[0], str)


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A stage: its file, relative to the bundle with forward slashes, and its tensors."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def largest_stride(self) -> int:
        """Largest stride of the outputs; 1 if none is a map."""
        return max((one.stride or 1 for one in self.outputs), default=1)


@dataclass(frozen=True, kw_only=True)
class PreprocessingSpec:
    """Normalization of an image: ``(value - mean) / std`` per channel, RGB, of values 0 to 255.

    ``fill`` is the value of canvas pixels outside the image.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: int

    def __post_init__(self) -> None:
        require(all(abs(value) <= 1e4 for value in self.mean), "mean must lie in -1e4..1e4")
        require(all(1e-4 <= value <= 1e4 for value in self.std), "std must lie in 1e-4..1e4")
        require(0 <= self.fill <= 255, "fill must lie in 0..255")


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """The sliding window in pixels of a level: side, step, and border around the level."""

    size: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        require(self.stride >= 1, "stride must be at least 1")
        require(self.size >= 1 and self.size % self.stride == 0, "size must be k * stride")
        require(self.size <= 1024, "size must be at most 1024")
        require(0 <= self.padding <= self.size, "padding must lie in 0..size")

    def canvas_side(self, side: float) -> int:
        """Return the side of the canvas of a level in pixels: its border, and at least one window."""
        return max(self.size, self.stride * ceil((side + 2 * self.padding) / self.stride))


@dataclass(frozen=True, kw_only=True)
class SelectSpec:
    """Number of windows to refine, and the suppression of windows and of proposals.

    ``window_nms_iou`` is the IoU above which the weaker of two windows is dropped before refinement.
    ``proposal_nms_iou`` is the IoU of the boxes of their masks above which the weaker of two
    proposals gets a lower score and is not classified. A value of 1 suppresses none.
    """

    top_k: int
    window_nms_iou: float
    proposal_nms_iou: float = 1.0

    def __post_init__(self) -> None:
        require(self.top_k >= 1, "top_k must be at least 1")
        require(0 < self.window_nms_iou <= 1, "window_nms_iou must lie in (0, 1]")
        require(0 < self.proposal_nms_iou <= 1, "proposal_nms_iou must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """Side of the masks that refine returns, and logit above which a pixel is foreground."""

    size: int
    threshold: float

    def __post_init__(self) -> None:
        require(1 <= self.size <= 4096, "size must lie in 1..4096")
        require(abs(self.threshold) <= 1e4, "threshold must lie in -1e4..1e4")


@dataclass(frozen=True, kw_only=True)
class FeaturesSpec:
    """Size in pixels at which the classifier sees an image.

    The shorter side is ``short_side``, unless the longer one would exceed ``long_side``. A classifier
    that reads maps of ``propose`` sees the level of the pyramid that is nearest to this size.
    """

    short_side: int
    long_side: int

    def __post_init__(self) -> None:
        require(1 <= self.short_side <= self.long_side, "need 1 <= short_side <= long_side")
        require(self.long_side <= 4096, "long_side must be at most 4096")


@dataclass(frozen=True, kw_only=True)
class ClassifySpec:
    """Interpretation of the outputs of the classify stage.

    ``calibration`` is (c0, c1, c2) of ``sigmoid(c0 + c1 * logit(p) + c2 * objectness_logit)``.
    """

    delta_mean: tuple[float, float, float, float]
    delta_std: tuple[float, float, float, float]
    class_nms_iou: float
    max_detections: int
    calibration: tuple[float, float, float] = (0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        require(0 < self.class_nms_iou <= 1, "class_nms_iou must lie in (0, 1]")
        require(self.max_detections >= 1, "max_detections must be at least 1")
        numbers = (*self.delta_mean, *self.delta_std, *self.calibration)
        in_range = all(abs(value) <= 1e4 for value in numbers)
        require(in_range, "delta_mean, delta_std and calibration must lie in -1e4..1e4")


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """A custom operator that the ONNX files use."""

    name: str
    domain: str
    version: str


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """SHA-256 (lower-case hexadecimal) and size in bytes of one file."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256 is malformed")
        require(0 <= self.size < 1 << 63, "size must lie in 0..2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a bundle. Class names exclude the background."""

    name: str
    class_names: tuple[str, ...]
    preprocessing: PreprocessingSpec
    pyramid: PyramidSpec
    windows: WindowSpec
    select: SelectSpec
    mask: MaskSpec
    stages: dict[str, StageSpec]
    features: FeaturesSpec | None = None
    classify: ClassifySpec | None = None
    plugins: tuple[PluginSpec, ...] = ()
    presets: dict[str, PresetSpec] = field(default_factory=dict)
    source: SourceSpec = field(default_factory=SourceSpec)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for stage in self.stages:
            require(stage in STAGES, f"unknown stage {stage!r}; known: {', '.join(STAGES)}")
        for stage in REQUIRED_STAGES:
            require(stage in self.stages, f"the stage {stage!r} is missing")
        for stage, other in (("features", "classify"), ("classify", "features")):
            if stage in self.stages:
                require(other in self.stages, f"the stage {stage!r} needs the stage {other!r}")
                require(getattr(self, stage) is not None, f"the section {stage!r} is missing")
                require(len(self.class_names) > 0, "class_names must not be empty")
        require(len(set(self.class_names)) == len(self.class_names), "class_names repeat")
        require(len(self.name) <= 1000, "name must be at most 1000 characters")
        in_range = len(self.presets) <= 64 and all(0 < len(name) <= 100 for name in self.presets)
        require(in_range, "presets must be at most 64, with names of 1 to 100 characters")
        in_range = all(0 < len(name) <= 1000 for name in self.class_names)
        require(in_range, "class_names must have 1 to 1000 characters")

    @property
    def classifies(self) -> bool:
        """Whether the bundle classifies its proposals."""
        return "classify" in self.stages

    @property
    def shares_trunk(self) -> bool:
        """Whether the classifier reads maps of ``propose``, and not an image of its own."""
        features = self.stages.get("features")
        return features is not None and all(one.name != "image" for one in features.inputs)

    @property
    def networks(self) -> dict[str, StageSpec]:
        """The stages that the runtime runs as networks: all except ``paste``."""
        return {name: spec for name, spec in self.stages.items() if name != "paste"}

    def precision_of(self, stage: str) -> str:
        """Return the precision of a stage: one of ``foveate.bundle.source.PRECISIONS``."""
        return self.source.precision.get(stage, "fp32")

    def to_json(self) -> str:
        """Return the text of ``manifest.json``, without values that are absent."""
        present = asdict(self, dict_factory=lambda items: {k: v for k, v in items if v is not None})
        content = {"schema": self.schema, **present}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse the text of ``manifest.json``.

        Raises:
            BundleError: The text is not JSON, a value is missing, unknown or of the wrong type, or
                this version of Foveate is too old for the schema.
        """
        try:
            content = load_json(text)
        except ValueError as error:
            raise BundleError(f"the manifest is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise BundleError("the manifest is not a JSON object")
        _check_schema(content)
        try:
            manifest = parse(cls, content)
            _check_memory(manifest)
            return manifest
        except RejectedValueError as error:
            raise BundleError(f"the manifest is invalid: {error}") from error


def _check_memory(manifest: Manifest) -> None:
    """Check the memory that a bundle needs; the options of a pipeline may need more."""
    top_k = max(manifest.select.top_k, *(one.top_k or 0 for one in manifest.presets.values()), 0)
    require(
        top_k * manifest.mask.size**2 <= _MOST_MASKS,
        f"select.top_k times mask.size squared must be at most {_MOST_MASKS}",
    )
    require(
        top_k * (len(manifest.class_names) + 1) <= _MOST_LOGITS,
        f"select.top_k times the number of classes must be at most {_MOST_LOGITS}",
    )


def _check_schema(content: Mapping[str, object]) -> None:
    schema = content.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BundleError(f"the manifest has no valid schema number (found {schema!r})")
    if schema > SCHEMA:
        what = f"the bundle has schema {schema}, this version of Foveate reads up to {SCHEMA}"
        raise BundleError(what, remedy="update foveate: pip install --upgrade foveate")
