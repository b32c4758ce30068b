# SPDX-License-Identifier: Apache-2.0
"""``foveate verify --device cuda``: compare all that runs a bundle on a GPU with the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import print_line, show_progress
from foveate.cli._figures import table_of
from foveate.errors import BackendError, OptionError

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.checks.record import Record, Thresholds
    from foveate.export.execution.sessions import Reference


def check_gpu(device: str, **others: bool) -> None:
    """Check that a GPU works, and that no option is given that applies to the CPU only.

    Raises:
        OptionError: An option is given, or the device is not a GPU.
        BackendError: There is no GPU that works.
    """
    from foveate.runtime.loading import open_device

    if device != "cuda":
        raise OptionError(f"there is no device {device!r}", remedy="use cpu, cuda")
    for name, given in others.items():
        if given:
            option = f"--{name.replace('_', '-')}"
            raise OptionError(f"{option} runs on the CPU only", remedy="omit it, or omit --device")
    open_device(device).close()


def compare_on_gpu(
    bundle: Bundle,
    references: Sequence[Reference],
    device: str,
    images: Sequence[Path],
    score_threshold: float,
    file: Path,
) -> list[Record]:
    """Compare each backend on a GPU with references on the CPU.

    Args:
        bundle: Bundle under test.
        references: Implementations to compare it with.
        device: Name of the device.
        images: Paths of images.
        score_threshold: Smallest score of a detection.
        file: File of the figures.

    Raises:
        BackendError: No backend can be opened on this GPU, or one fails.
    """
    from foveate.export.checks.on_gpu import BACKENDS, gpu_backends, open_subject
    from foveate.export.checks.record import write_records
    from foveate.export.checks.verification import compare
    from foveate.runtime import PipelineOptions

    options = PipelineOptions(score_threshold=score_threshold)
    records: list[Record] = []
    for backend in gpu_backends(bundle):
        with ExitStack() as stack:
            try:
                subject = stack.enter_context(open_subject(bundle, device, backend, options))
            except BackendError as error:
                print_line(f"{BACKENDS[backend]} was not run: {error}")
                continue
            for against in references:
                with show_progress() as progress:
                    records.append(compare(bundle, against, subject, images, progress=progress))
                print_line(f"{subject.name}, compared with {against.name}:")
                for line in table_of(records[-1]):
                    print_line(line)
                write_records(records, file)  # before the judgment, so that failures can be studied
    if not records:
        raise BackendError("no backend runs on this GPU", remedy="see the reasons above")
    print_line(f"The figures are in {file}", to_stderr=True)
    return records


def judge(
    records: Sequence[Record], thresholds: Mapping[str, Thresholds], engines: Mapping[str, str]
) -> None:
    """Check the figures of all backends, and print which compiled engines were not run.

    Args:
        records: Figures of each backend and reference.
        thresholds: Bounds on the figures of each stage.
        engines: File of each compiled engine, with the reason why it cannot run here.

    Raises:
        ModelError: A backend differs from the CPU by more than the thresholds.
    """
    from foveate.export.checks.on_gpu import BACKENDS
    from foveate.export.checks.record import check_record

    ran = {(one.backend, name) for one in records for image in one.images for name in image.stages}
    for plan, reason in engines.items():
        path = Path(plan)
        backend = f"{BACKENDS[path.parent.name]} on "
        if not any(name == path.stem and one.startswith(backend) for one, name in ran):
            print_line(f"{plan} was not run: {reason or 'it accepts none of these images'}")
    for record in records:
        check_record(record, thresholds)
        print_line(f"{record.backend} agrees with {record.reference}")
