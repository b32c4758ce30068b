# SPDX-License-Identifier: Apache-2.0
"""The parts of ``foveate bench``: its images, pipelines and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.bench.accuracy import measure_accuracy
from foveate.bench.explanation import explained
from foveate.bench.measurement import Measurement, record_against, run_against
from foveate.bench.page.document import page_of
from foveate.bench.record_file import record_text
from foveate.bench.server_session import ServerSession, ServerTarget
from foveate.bench.session import Session, Target
from foveate.bench.sweep import Sweep
from foveate.bundle import Bundle
from foveate.cli._bench_targets import AnyTarget, Targets
from foveate.cli._console import print_line, show_progress
from foveate.cli._files import check_output, write_result
from foveate.cli._interruption import on_interruption
from foveate.errors import OptionError, ServerError
from foveate.evaluation import GroundTruth
from foveate.images.reading import find_images
from foveate.plain_text import json_text
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.loading import DEVICES, check_choice, open_device, open_parts

if TYPE_CHECKING:
    from foveate.bench.options import BenchOptions
    from foveate.bench.record import Record
    from foveate.bench.sweep_options import SweepOptions
    from foveate.bench.sweep_record import SweepRecord
    from foveate.progress import Progress
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

_SAMPLES = Path(__file__).parents[1] / "assets" / "images"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files of a measurement.

    Args:
        json: File of the record; ``-`` is stdout, None no file.
        html: File of the page.
        trace: File of the trace.
    """

    json: Path | None
    html: Path | None
    trace: Path | None

    def check(self, inputs: Sequence[Path]) -> None:
        """Check before the work that the files can be written."""
        for path in (self.json, self.html, self.trace):
            check_output(path, inputs)

    def write(self, record: Record) -> None:
        """Write the record and its page."""
        if self.json is not None:
            write_result(self.json, record_text(record))
        if self.html is not None:
            write_result(self.html, page_of(record))

    def write_trace(self, session: Measurement) -> None:
        """Write the trace of the work so far."""
        if self.trace is not None:
            write_result(self.trace, json_text(session.trace()))


def _find_files(images: Sequence[str]) -> list[Path]:
    """Return the files of images and directories; those of the sample images by default."""
    if not images:
        return sorted(_SAMPLES.glob("*.jpg"))
    files, left_out = find_images(list(images))
    if left_out:
        print_line(left_out, to_stderr=True)
    return files


def _open_truth(dataset: Path) -> GroundTruth:
    """Open a data set with its images."""
    truth = GroundTruth.open(dataset)
    truth.require_images()
    return truth


def open_truths(datasets: Sequence[Path], limit: int | None) -> dict[str, GroundTruth]:
    """Open data sets with their images, by the shortest ends of their paths that tell them apart."""
    truths = {}
    paths = [dataset.resolve() for dataset in datasets]
    for path in paths:
        truth = GroundTruth.open(path, limit=limit)
        truth.require_images()
        truths[_short_name(path, paths)] = truth
    return truths


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

    An interruption writes the record of those that were measured so far.
    """

    def write(record: SweepRecord) -> None:
        if json is not None:
            write_result(json, record_text(record))

    with show_progress() as progress:
        sweep = Sweep(
            target, truths, options, variants=variants, open_with=_open_parts, progress=progress
        )

        def save() -> str:
            partial = sweep.record()
            write(partial)
            where = f", partial figures in {json}" if json else ""
            return f"{len(partial.points)} of {partial.planned} configurations measured{where}"

        on_interruption(save, grace=1.0)  # a record can be taken at any time, so it need not wait
        sweep.run(keep=write if json != Path("-") else lambda _: None)
    if json == Path("-"):
        write(sweep.record())
    return sweep.record()


def measure_targets(
    targets: Targets, options: BenchOptions, outputs: Outputs, *, dataset: Path | None, limits: bool
) -> Record:
    """Measure what is to be measured, and write its record.

    Args:
        targets: What is to be measured, and the images.
        options: Options of the benchmark.
        outputs: Files to write.
        dataset: Data set on which the accuracy of a pipeline is measured; None for none.
        limits: Whether the limits of a pipeline are measured.
    """
    files, pipeline = _find_files(targets.images), targets.candidate
    outputs.check(files)
    truth = None if dataset is None else _open_truth(dataset)
    record = _run(targets, files, options, outputs)
    if isinstance(pipeline, Target):
        if truth is not None:
            record = _add_accuracy(record, pipeline, truth)
        if limits and record.outcome.images:
            record = explained(record, pipeline, Bundle.open(pipeline.bundle))
    outputs.write(record)
    return record


def _run(
    targets: Targets, files: Sequence[Path], options: BenchOptions, outputs: Outputs
) -> Record:
    """Measure a target, in turns with another one if there is one, and write its trace.

    An interruption, or a server that fails, writes the record and the trace of what was measured so
    far.
    """
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        session, *rivals = [
            stack.enter_context(closing(_open(target, files, options, progress)))
            for target in (targets.candidate, targets.rival)
            if target is not None
        ]
        rival = rivals[0] if rivals else None

        def record() -> Record:
            return session.record() if rival is None else record_against(session, rival)

        def save() -> str:
            partial = record()
            outputs.write(partial)
            outputs.write_trace(session)
            files = " and ".join(str(one) for one in (outputs.json, outputs.html) if one)
            where = f", partial figures in {files}" if files else ""
            return f"{partial.outcome.images} images measured{where}"

        on_interruption(save, grace=1.0)  # a record can be taken at any time, so it need not wait
        try:
            if rival is None:
                session.run()
            else:
                run_against(session, rival)
        except ServerError:
            if session.benchmark.collection.measured:
                print_line(save(), to_stderr=True)
            raise
        outputs.write_trace(session)
        return record()


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
    if backend != "torch":
        return open_parts(bundle, device, backend, options)
    from foveate.cli._torch import open_torch_parts

    check_choice("device", device, DEVICES)
    return open_torch_parts(bundle, open_device(device), options)
