# SPDX-License-Identifier: Apache-2.0
"""Figures of a verification, their file, and the thresholds that they have to meet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path

from foveate.bundle import Bundle
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import InputError, ModelError, OptionError
from foveate.export.checks.matching import Matched, PasteComparison
from foveate.export.execution.divergence import Difference
from foveate.plain_text import json_text
from foveate.system.files import write_file

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """Figures of an image.

    Args:
        image: Path of the image.
        stages: Differences of each output, by the stage, or by the name of a compiled engine, which
            begins with that of its stage.
        detections: The detections of both cascades.
        pasting: Comparison of the stage ``paste``, if the bundle has it.
    """

    image: str
    stages: dict[str, dict[str, Difference]]
    detections: Matched
    pasting: PasteComparison | None = None

    def engines(self, stage: str) -> dict[str, dict[str, Difference]]:
        """Return the differences of what ran a stage: the stage itself, or its engines."""
        return {name: one for name, one in self.stages.items() if name.split("-")[0] == stage}


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Average recall or precision, 0 to 1, of the reference and of the bundle."""

    expected: float
    found: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """Figures of a verification.

    Args:
        bundle: Name of the bundle.
        files: SHA-256 of the ONNX file of each stage.
        reference: Description of the reference.
        backend: Description of the engine that ran the bundle.
        score_threshold: Smallest score of a compared detection.
        precision: Precision of each stage according to the manifest.
        images: Figures of the images.
        accuracy: Figures on a dataset, by name; empty unless a dataset was given.
        engines: Reason why a compiled engine of the bundle was not run, by engine.
        schema: Version of the file format.
    """

    bundle: str
    files: dict[str, str]
    reference: str
    backend: str
    score_threshold: float
    precision: dict[str, str]
    images: tuple[ImageRecord, ...]
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def stage_digests(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256 of the file of each stage, from the manifest."""
    manifest = bundle.manifest
    return {name: manifest.files[stage.file].sha256 for name, stage in manifest.stages.items()}


def write_record(record: Record, file: Path) -> None:
    """Write figures as JSON.

    Raises:
        InputError: The file cannot be written; an existing file is unchanged.
    """
    write_file(file, json_text(asdict(record), indent=1).encode())


def write_records(records: Sequence[Record], file: Path) -> None:
    """Write the figures of several backends and references as JSON; errors as ``write_record``."""
    content = {"schema": SCHEMA, "records": [asdict(one) for one in records]}
    write_file(file, json_text(content, indent=1).encode())


def read_record(file: Path, bundle: Bundle) -> Record:
    """Read figures of a bundle.

    Raises:
        InputError: The file does not exist, is of another kind, or belongs to other ONNX files.
    """
    again = "run foveate verify without --from-report"
    try:
        content = load_json(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise RejectedValueError(f"expected schema {SCHEMA}")
        record = parse(Record, content)
    except OSError as error:
        what = f"there are no saved figures ({error.strerror})"
        raise InputError(what, file=file, remedy=again) from error
    # Deeply nested JSON raises RecursionError.
    except (ValueError, RecursionError) as error:
        what = f"the file contains no figures of a verification ({error})"
        raise InputError(what, file=file, remedy=again) from error
    if record.files != stage_digests(bundle):
        what = f"the figures do not belong to the ONNX files of {bundle.manifest.name!r}"
        raise InputError(what, file=file, remedy=again)
    return record


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Bounds on the figures of a verification.

    Args:
        tolerance: Largest difference, as a share of max(1, largest value).
        cosine: Smallest cosine between an output and that of the reference.
        box: Largest difference of a coordinate of a detection, in pixels.
        mask_iou: Smallest IoU between the masks of a detection.
        min_match_rate: Smallest share of the detections that have a partner within both bounds.
        accuracy: Smallest share of the reference's average recall and precision.
    """

    tolerance: float = 1e-5
    cosine: float = 0.9999
    box: float = 0.5
    mask_iou: float = 0.99
    min_match_rate: float = 1.0
    accuracy: float = 0.999

    def __post_init__(self) -> None:
        values = asdict(self)
        for name in ("cosine", "mask_iou", "min_match_rate", "accuracy"):
            if not 0 <= values[name] <= 1:
                raise OptionError(f"{name} is {values[name]}, expected 0 to 1")
        for name in ("tolerance", "box"):
            if not values[name] >= 0:
                raise OptionError(f"{name} is {values[name]}, expected 0 or more")


DEFAULT_THRESHOLDS = {
    "fp32": Thresholds(),
    # Of two windows with nearly the same score, another one may be selected.
    "fp16": Thresholds(tolerance=5e-2, cosine=0.999, min_match_rate=0.7, mask_iou=0.9, box=4.0),
    # Single values of a quantized network can be far off; the cosine and the results count.
    "int8": Thresholds(
        tolerance=inf, cosine=0.98, min_match_rate=0.4, mask_iou=0.9, box=4.0, accuracy=0.99
    ),
}
"""Default thresholds of a stage by its precision, the most exact first."""

GPU_THRESHOLDS = DEFAULT_THRESHOLDS | {
    # Convolutions have other algorithms there, so that a window with nearly the same score as another
    # one may be selected. These bounds are estimates: they were not measured on a GPU.
    "fp32": Thresholds(tolerance=1e-4, min_match_rate=0.9)
}
"""The same for a bundle that runs on a GPU, compared with a reference on the CPU."""


def check_record(record: Record, thresholds: Mapping[str, Thresholds] | None = None) -> None:
    """Check figures against the thresholds of each stage, by default those of its precision.

    Raises:
        ModelError: The figures of a stage, or of the whole cascade, do not meet them. The error
            names the first stage in the order of the cascade.
    """
    by_stage = thresholds or {
        stage: DEFAULT_THRESHOLDS[precision] for stage, precision in record.precision.items()
    }
    for stage in record.precision:
        for image in record.images:
            for name, differences in image.engines(stage).items():
                _check_engine(record, image.image, name, differences, by_stage[stage])
    for image in record.images:
        if image.pasting is not None:
            check_pasting(image.image, image.pasting)
    # The least exact stage limits the accuracy of the cascade.
    order = list(DEFAULT_THRESHOLDS)
    worst = max(record.precision, key=lambda one: order.index(record.precision[one]))
    _check_detections(record, by_stage[worst])
    _check_accuracy(record, by_stage[worst])


def _check_engine(
    record: Record, image: str, name: str, differences: Mapping[str, Difference], bounds: Thresholds
) -> None:
    what = f"the stage {name!r}" if name in record.precision else f"the engine {name!r}"
    for output, difference in differences.items():
        why = _fault(difference, bounds)
        if why is not None:
            raise ModelError(
                f"{what} differs from {record.reference}: its output {output!r} {why}, on {image}",
                remedy="run foveate verify --device cpu --bisect to find the layer",
            )


def check_pasting(image: str, found: PasteComparison) -> None:
    """Check that the stage ``paste`` produces the bits of the runtime's masks.

    Raises:
        ModelError: They differ.
    """
    why = found.fault()
    if why is not None:
        raise ModelError(
            f"the stage 'paste' differs from the runtime's own masks: {why}, on {image}",
            remedy="export it again: foveate export CHECKPOINT --output BUNDLE --with-paste",
        )


def _check_detections(record: Record, bounds: Thresholds) -> None:
    # All images count together, since a single detection is a large share of those of an image.
    images = [image.detections for image in record.images]
    most = [max(image.expected, image.found) for image in images]
    good = [
        sum(one.box_error <= bounds.box and one.mask_iou >= bounds.mask_iou for one in image.pairs)
        for image in images
    ]
    if sum(good) >= bounds.min_match_rate * sum(most):
        return
    lost = [total - paired for total, paired in zip(most, good, strict=True)]
    worst = record.images[lost.index(max(lost))]
    raise ModelError(
        f"the whole cascade differs from {record.reference}: {sum(good)} of {sum(most)} detections "
        f"have a partner, boxes within {bounds.box:g} px and masks of IoU {bounds.mask_iou:g}; most are "
        f"lost on {worst.image}",
        remedy="pass other thresholds, or look at the image with foveate run",
    )


def _check_accuracy(record: Record, bounds: Thresholds) -> None:
    for name, figure in record.accuracy.items():
        if not figure.found >= bounds.accuracy * figure.expected:
            raise ModelError(
                f"the whole cascade is less accurate than {record.reference}: {name} is "
                f"{figure.found:.4f}, at least {bounds.accuracy:.1%} of {figure.expected:.4f} was "
                "expected",
                remedy="run foveate verify --device cpu --bisect to find the layer, or export in a "
                "higher precision",
            )


def _fault(found: Difference, bounds: Thresholds) -> str | None:
    if found.misshapen:
        return f"has another shape in {found.misshapen} of {found.calls} calls"
    if found.not_finite:
        return f"has {found.not_finite} values that are not finite"
    if not found.relative <= bounds.tolerance:
        return (
            f"by {found.relative:.1e} of the largest value, at most {bounds.tolerance:.0e} was "
            "expected"
        )
    if not found.cosine >= bounds.cosine:
        return f"has a cosine of {found.cosine:.4f}, at least {bounds.cosine:g} was expected"
    return None
