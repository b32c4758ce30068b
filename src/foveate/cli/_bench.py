# SPDX-License-Identifier: Apache-2.0
"""The parts of ``foveate bench``: its images, data sets and pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.bench.accuracy import measure_accuracy
from foveate.bench.explanation import explained
from foveate.bench.measurement import Measurement
from foveate.bench.record_file import record_text
from foveate.bench.server_session import ServerSession, ServerTarget
from foveate.bench.session import Session, Target
from foveate.bench.sweep import Sweep
from foveate.bench.sweep_table import sweep_tables
from foveate.bundle import Bundle
from foveate.cli._bench_outputs import Outputs, Partial, keeping
from foveate.cli._bench_targets import AnyTarget
from foveate.cli._classes import print_lacking_classes
from foveate.cli._console import print_line, print_table, show_progress
from foveate.cli._files import check_outputs, write_result
from foveate.errors import OptionError
from foveate.evaluation import GroundTruth
from foveate.images.reading import find_images
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.loading import open_device, open_parts

if TYPE_CHECKING:
    from foveate.bench.options import BenchOptions
    from foveate.bench.record import Record
    from foveate.bench.sweep_options import SweepOptions
    from foveate.bench.sweep_record import SweepRecord
    from foveate.progress import Progress
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

_SAMPLES = Path(__file__).parents[1] / "assets" / "images"


def _find_files(images: Sequence[str]) -> list[Path]:
    """Return the files of images and directories; those of the sample images by default."""
    if not images:
        return sorted(_SAMPLES.glob("*.jpg"))
    files, left_out = find_images(list(images))
    if left_out:
        print_line(left_out, to_stderr=True)
    return files


def open_truths(datasets: Sequence[Path], limit: int | None) -> dict[str, GroundTruth]:
    """Open data sets with their images, by the shortest ends of their paths that tell them apart."""
    paths = [dataset.resolve() for dataset in datasets]
    return {_short_name(path, paths): _open_truth(path, limit) for path in paths}


def _open_truth(dataset: Path, limit: int | None = None) -> GroundTruth:
    truth = GroundTruth.open(dataset, limit=limit)
    truth.require_images()
    return truth


def _short_name(path: Path, paths: Sequence[Path]) -> str:
    for length in range(1, len(path.parts) + 1):
        name = "/".join(path.parts[-length:])
        if sum(other.parts[-length:] == path.parts[-length:] for other in paths) == 1:
            return name
    raise OptionError(f"the data set {path} is given twice", remedy="pass it once")


def run_sweep(
    target: Target,
    truths: Mapping[str, GroundTruth],
    options: SweepOptions,
    variants: Sequence[str],
    json: Path | None,
) -> SweepRecord:
    """Measure the configurations of a bundle, and write the record after each of them.

    A failure or an interruption keeps the record of those that were measured so far.
    """

    def write(record: SweepRecord) -> None:
        if json is not None:
            write_result(json, record_text(record))

    def report(record: SweepRecord) -> None:
        try:
            write(record)
        finally:
            for table in sweep_tables(record):
                print_table(table, to_stderr=json == Path("-"))

    sweep: Sweep | None = None

    def save() -> str:
        partial = None if sweep is None else sweep.record()
        if partial is None or not partial.points:
            return ""
        report(partial)
        where = f", partial figures in {json}" if json else ""
        return f"{len(partial.points)} of {partial.planned} configurations measured{where}"

    with keeping(save), show_progress() as progress:
        sweep = Sweep(
            target, truths, options, variants=variants, open_with=_open_parts, progress=progress
        )
        sweep.run(keep=write if json != Path("-") else lambda _: None)
    record = sweep.record()
    report(record)
    return record


def measure_targets(
    targets: Sequence[AnyTarget],
    images: Sequence[str],
    options: BenchOptions,
    outputs: Outputs,
    *,
    dataset: Path | None,
    limits: bool,
) -> Record:
    """Measure a target, in turns with a second one if there is one, and write the record.

    A failure or an interruption writes the record and the trace of what was measured so far.
    """
    files, target = _find_files(images), targets[0]
    truth = None if dataset is None else _open_truth(dataset)
    inputs = [*files, *(truth.files if truth is not None else ())]
    check_outputs(outputs.json, outputs.html, outputs.trace, inputs=inputs)
    partial = Partial(outputs)
    with keeping(partial.save):
        record = _run(targets, files, options, partial)
        if isinstance(target, Target) and truth is not None:
            record = partial.record = _add_accuracy(record, target, truth)
        if isinstance(target, Target) and limits and record.outcome.images:
            bundle = Bundle.open(target.bundle)
            record = explained(record, target, bundle, outputs.command)
    outputs.write(record)
    return record


def _run(
    targets: Sequence[AnyTarget], files: Sequence[Path], options: BenchOptions, partial: Partial
) -> Record:
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        session, *rivals = [
            stack.enter_context(closing(_open(target, files, options, progress)))
            for target in targets
        ]
        partial.session = session
        session.run(*rivals)
        partial.record = session.record()
        partial.outputs.write_trace(session)
        return partial.record


def _add_accuracy(record: Record, target: Target, truth: GroundTruth) -> Record:
    """Return the record with the accuracy of its configuration."""
    options = replace(target.options, score_threshold=0.0)
    bundle = Bundle.open(target.bundle)
    device, engines = _open_parts(bundle, target.device, target.backend, options)
    with (
        Pipeline(bundle, engines, device=device, options=options) as pipeline,
        show_progress() as progress,
    ):
        backend = record.subject.backend
        assert backend is not None  # only a server does not report it
        if bundle.manifest.classifies:
            print_lacking_classes(truth, bundle.manifest.class_names)
        accuracy = measure_accuracy(pipeline, truth, backend=backend, progress=progress)
    return replace(record, accuracy=accuracy)


def _open(
    target: AnyTarget, files: Sequence[Path], options: BenchOptions, progress: Progress
) -> Measurement:
    if isinstance(target, ServerTarget):
        return ServerSession(target, files, options, progress=progress)
    return Session(target, files, options, open_with=_open_parts, progress=progress)


def _open_parts(
    bundle: Bundle, device: str, backend: str, options: PipelineOptions
) -> tuple[Device, Mapping[str, Engine]]:
    """Open a device and engines, which may be those of PyTorch."""
    from foveate.cli._torch import check_device_and_backend, open_torch_parts

    check_device_and_backend(device, backend)
    if backend != "torch":
        return open_parts(bundle, device, backend, options)
    return open_torch_parts(bundle, open_device(device), options)
