# SPDX-License-Identifier: Apache-2.0
"""The figures of a verification, in a file, so that they can be judged again without another run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from foveate.bundle import Bundle
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import InputError
from foveate.export.checks.matching import Matched
from foveate.export.checks.pasting import Pasted
from foveate.export.checks.statistics import Difference
from foveate.plain_text import json_text
from foveate.system.files import write_file

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ImageParity:
    """An image: stage -> output -> difference, and what became of the detections.

    `pasting` is of the optional stage `paste`, if the bundle has it.
    """

    image: str
    stages: dict[str, dict[str, Difference]]
    detections: Matched
    pasting: Pasted | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A figure of average recall or precision, 0 to 1: the reference's, and the bundle's."""

    expected: float
    found: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """A verification.

    Attributes:
        bundle: its name.
        files: stage -> SHA-256 of its ONNX file.
        reference: what it was compared with, in words.
        backend: what ran the bundle.
        score_threshold: smallest score of a detection that was compared.
        precision: stage -> precision that the bundle claims.
        images: in the order of the run.
        accuracy: figures on a data set, by name; none unless one was given.
        engines: compiled engine of the bundle -> why it was not run.
    """

    bundle: str
    files: dict[str, str]
    reference: str
    backend: str
    score_threshold: float
    precision: dict[str, str]
    images: tuple[ImageParity, ...]
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def stage_digests(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256 of each stage's file, as the manifest lists it."""
    manifest = bundle.manifest
    return {name: manifest.files[stage.file].sha256 for name, stage in manifest.stages.items()}


def write_record(record: Record, file: Path) -> None:
    """Write the figures as JSON.

    Raises:
        InputError: the file cannot be written; one that was there stays.
    """
    write_file(file, json_text(asdict(record), indent=1).encode())


def read_record(file: Path, bundle: Bundle) -> Record:
    """Read figures and check that they are of this bundle.

    Raises:
        InputError: there is no such file, it is of another kind, or of other ONNX files.
    """
    again = "run foveate verify without --from-report"
    try:
        content = load_json(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise RejectedValueError(f"expected schema {SCHEMA}")
        record = parse(Record, content)
    except OSError as error:
        what = f"there are no figures to judge again ({error.strerror})"
        raise InputError(what, file=file, remedy=again) from error
    except (ValueError, RecursionError) as error:
        what = f"the file contains no figures of a verification ({error})"
        raise InputError(what, file=file, remedy=again) from error
    if record.files != stage_digests(bundle):
        what = f"the figures are of other ONNX files than those of {bundle.manifest.name!r}"
        raise InputError(what, file=file, remedy=again)
    return record
