# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: what ``manifest.json`` says, as typed and checked values."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
STAGES = ("propose", "refine", "features", "classify", "paste")
REQUIRED_STAGES = ("propose", "refine")
PRECISIONS = ("fp32", "fp16", "int8")

# What a hostile manifest may ask for. Each bound is far above every network here; together they keep
# the memory of a small image below some hundred MB.
_MOST_SCALE = 4.0
_LONGEST = 1 << 24
_MOST_MASKS = 1 << 28  # pixels of the masks of all windows
_MOST_LOGITS = 1 << 25  # windows times classes


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RejectedValueError(message)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A named input or output of a stage; a dimension is a number, or a name if it varies.

    ``stride`` is given for an output that is a map of the stage's image, (1, channels, rows,
    columns): image pixels from one of its cells to the next.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    stride: int | None = None

    def __post_init__(self) -> None:
        sizes = [side for side in self.shape if isinstance(side, int)]
        _require(len(self.shape) <= 8, "shape must have at most 8 dimensions")
        _require(
            all(1 <= side <= _LONGEST for side in sizes),
            f"the numbers of shape must lie in 1..{_LONGEST}",
        )
        _require(self.stride is None or self.stride >= 1, "stride must be at least 1")


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A stage: its file, relative to the bundle with forward slashes, and its signature."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class PreprocessingSpec:
    """How an image becomes numbers: ``(value - mean) / std`` per channel in RGB order, 0 to 255.

    ``fill`` is the value of canvas pixels outside the image.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: int

    def __post_init__(self) -> None:
        _require(all(abs(value) <= 1e4 for value in self.mean), "mean must lie in -1e4..1e4")
        _require(all(1e-4 <= value <= 1e4 for value in self.std), "std must lie in 1e-4..1e4")
        _require(0 <= self.fill <= 255, "fill must lie in 0..255")


@dataclass(frozen=True, kw_only=True)
class PyramidSpec:
    """The levels, as scales of the working image, whose longer side is at most ``max_side``."""

    scales: tuple[float, ...]
    max_side: int

    def __post_init__(self) -> None:
        _require(len(self.scales) > 0, "scales must not be empty")
        _require(len(self.scales) <= 64, "scales must be at most 64")
        _require(
            all(0 < scale <= _MOST_SCALE for scale in self.scales),
            f"scales must lie in (0, {_MOST_SCALE:g}]",
        )
        _require(self.max_side >= 16, "max_side must be at least 16")


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """The sliding window in pixels of a level: its side, its step and the border around a level."""

    size: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        _require(self.stride >= 1, "stride must be at least 1")
        _require(self.size >= 1 and self.size % self.stride == 0, "size must be k * stride")
        _require(self.size <= 1024, "size must be at most 1024")
        _require(0 <= self.padding <= self.size, "padding must lie in 0..size")
        _require(
            2 * self.padding >= self.size - self.stride,
            "twice the padding must be at least size - stride, so that every image has a window",
        )


@dataclass(frozen=True, kw_only=True)
class SelectSpec:
    """How many windows are kept, and the box IoU above which a weaker window is dropped."""

    top_k: int
    window_nms_iou: float

    def __post_init__(self) -> None:
        _require(self.top_k >= 1, "top_k must be at least 1")
        _require(0 < self.window_nms_iou <= 1, "window_nms_iou must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """Side of the masks that refine returns, and the logit above which a pixel is foreground."""

    size: int
    threshold: float

    def __post_init__(self) -> None:
        _require(1 <= self.size <= 4096, "size must lie in 1..4096")
        _require(abs(self.threshold) <= 1e4, "threshold must lie in -1e4..1e4")


@dataclass(frozen=True, kw_only=True)
class FeaturesSpec:
    """Size of the image that the features stage sees, in pixels."""

    short_side: int
    long_side: int
    multiple: int

    def __post_init__(self) -> None:
        _require(1 <= self.short_side <= self.long_side, "need 1 <= short_side <= long_side")
        _require(self.long_side <= 4096, "long_side must be at most 4096")
        _require(1 <= self.multiple <= 1024, "multiple must lie in 1..1024")


@dataclass(frozen=True, kw_only=True)
class ClassifySpec:
    """How box deltas, probabilities and scores of the classify stage are to be read.

    ``calibration`` is (c0, c1, c2) of ``sigmoid(c0 + c1 * logit(p) + c2 * objectness_logit)``.
    ``proposal_nms_iou``, if given, is the IoU of mask boxes above which a weaker proposal is dropped
    before classification.
    """

    delta_mean: tuple[float, float, float, float]
    delta_std: tuple[float, float, float, float]
    class_nms_iou: float
    max_detections: int
    calibration: tuple[float, float, float] = (0.0, 1.0, 0.0)
    proposal_nms_iou: float | None = None

    def __post_init__(self) -> None:
        _require(0 < self.class_nms_iou <= 1, "class_nms_iou must lie in (0, 1]")
        _require(self.max_detections >= 1, "max_detections must be at least 1")
        numbers = (*self.delta_mean, *self.delta_std, *self.calibration)
        _require(
            all(abs(value) <= 1e4 for value in numbers),
            "delta_mean, delta_std and calibration must lie in -1e4..1e4",
        )
        if self.proposal_nms_iou is not None:
            _require(0 < self.proposal_nms_iou <= 1, "proposal_nms_iou must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """An operator of ours that the ONNX files use."""

    name: str
    domain: str
    version: str


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A PyTorch network: its builder's name, and the builder's arguments except the classes."""

    name: str
    sizes: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """How the stages were made of PyTorch networks; by this the networks can be read back.

    Args:
        networks: The proposal network, then the classifier if there is one.
        svd: Ranks to which the linear layers of each tower were truncated.
        optimize: Names of the optimization passes that were applied.
        precision: Precision of each stage that is not float32: one of ``PRECISIONS``.
    """

    networks: tuple[NetworkSpec, ...] = ()
    svd: tuple[int, ...] = ()
    optimize: tuple[str, ...] = ()
    precision: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(len(self.networks) <= 2, "networks must be at most 2")
        for stage, name in self.precision.items():
            _require(
                name in PRECISIONS,
                f"precision of the stage {stage!r} must be one of {', '.join(PRECISIONS)}, "
                f"found {name!r:.60}",
            )


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """Checksum (lower-case hexadecimal) and size in bytes of one file."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        _require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256 is malformed")
        _require(0 <= self.size < 1 << 63, "size must lie in 0..2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a bundle says about itself. Class names exclude the background."""

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
    source: SourceSpec = field(default_factory=SourceSpec)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for stage in self.stages:
            _require(stage in STAGES, f"unknown stage {stage!r}; known: {', '.join(STAGES)}")
        for stage in REQUIRED_STAGES:
            _require(stage in self.stages, f"the stage {stage!r} is missing")
        for stage, other in (("features", "classify"), ("classify", "features")):
            if stage in self.stages:
                _require(other in self.stages, f"the stage {other!r} is missing beside {stage!r}")
                _require(getattr(self, stage) is not None, f"the section {stage!r} is missing")
                _require(len(self.class_names) > 0, "class_names must not be empty")
        _require(len(set(self.class_names)) == len(self.class_names), "class_names repeat")
        _require(len(self.name) <= 1000, "name must be at most 1000 characters")
        _require(
            all(0 < len(name) <= 1000 for name in self.class_names),
            "class_names must have 1 to 1000 characters",
        )

    @property
    def classifies(self) -> bool:
        """Whether the bundle names what it finds, rather than only proposing."""
        return "classify" in self.stages

    @property
    def networks(self) -> dict[str, StageSpec]:
        """The stages that our own runtime runs: without ``paste``, which it has kernels for."""
        return {name: spec for name, spec in self.stages.items() if name != "paste"}

    def precision_of(self, stage: str) -> str:
        """Return the precision that the manifest gives for a stage: one of ``PRECISIONS``."""
        return self.source.precision.get(stage, "fp32")

    def to_json(self) -> str:
        """Write as the text of ``manifest.json``, without values that are absent."""
        present = asdict(self, dict_factory=lambda items: {k: v for k, v in items if v is not None})
        content = {"schema": self.schema, **present}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of ``manifest.json``.

        Raises:
            BundleError: The text is no JSON, a value is missing, unknown or of a wrong kind, or
                the schema is newer than this version of Foveate knows.
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
    """Check the memory that a bundle asks for; an option of the user may ask for more."""
    top_k = manifest.select.top_k
    _require(
        top_k * manifest.mask.size**2 <= _MOST_MASKS,
        f"select.top_k times mask.size squared must be at most {_MOST_MASKS}",
    )
    _require(
        top_k * (len(manifest.class_names) + 1) <= _MOST_LOGITS,
        f"select.top_k times the number of classes must be at most {_MOST_LOGITS}",
    )


def _check_schema(content: Mapping[str, object]) -> None:
    schema = content.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BundleError(f"the manifest has no valid schema number (found {schema!r})")
    if schema > SCHEMA:
        raise BundleError(
            f"the bundle has schema {schema}, this version of Foveate reads up to {SCHEMA}",
            remedy="update foveate: pip install --upgrade foveate",
        )
