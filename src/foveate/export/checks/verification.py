# SPDX-License-Identifier: Apache-2.0
"""Comparison of a bundle with a reference on images: each stage, and the whole cascade."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.checks.matching import PasteComparison, compare_pasting, match
from foveate.export.checks.record import ImageRecord, Record, stage_digests
from foveate.export.execution.divergence import (
    Accumulator,
    FirstDivergence,
    first_divergent_layer,
    relative_error,
)
from foveate.export.execution.sessions import (
    Function,
    Reference,
    bundle_pipeline,
    calls_of,
    function_pipeline,
    run_pipeline,
    session_function,
    stage_functions,
)
from foveate.export.execution.stage_model import load_stage
from foveate.progress import Progress, no_progress
from foveate.results.window_masks import of_windows
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD

Run = Callable[[dict[str, Array], Mapping[str, Array]], Mapping[str, Array] | None]
"""Runs a stage: takes its inputs and the outputs of the reference, and returns its own outputs, or
None if it does not accept inputs of these shapes."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An implementation of a bundle that is compared with a reference.

    Args:
        name: Description of the backend.
        stages: Runs of each stage, by the name of the stage or by those of its compiled engines,
            which begin with that of the stage.
        pipeline: Pipeline of the backend.
    """

    name: str
    stages: Mapping[str, Mapping[str, Run]]
    pipeline: Pipeline


def measure(
    bundle: Bundle,
    reference: Reference,
    images: Sequence[Path],
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    emulate_fp16: bool = False,
    progress: Progress = no_progress,
) -> Record:
    """Compare a bundle on ONNX Runtime on the CPU with a reference; see ``compare``.

    Args:
        bundle: Bundle under test.
        reference: Implementation to compare it with.
        images: Paths of images.
        score_threshold: Smallest score of a detection.
        emulate_fp16: Whether stages in fp16 round as on a GPU; see ``stage_functions``.
        progress: Called after each image.

    Raises:
        InputError: An image cannot be read.
        OptionError: ``emulate_fp16`` is set and no stage is in fp16.
    """
    own = stage_functions(bundle, emulate_fp16=emulate_fp16)
    options = PipelineOptions(score_threshold=score_threshold)
    with bundle_pipeline(bundle, options, emulate_fp16=emulate_fp16) as pipeline:
        subject = Subject(
            name="ONNX Runtime on the CPU" + (", float16 emulated" if emulate_fp16 else ""),
            stages={stage: {stage: partial(_call, one)} for stage, one in own.items()},
            pipeline=pipeline,
        )
        return compare(bundle, reference, subject, images, progress=progress)


def compare(
    bundle: Bundle,
    reference: Reference,
    subject: Subject,
    images: Sequence[Path],
    *,
    progress: Progress = no_progress,
) -> Record:
    """Compare an implementation of a bundle with a reference.

    Each stage gets the inputs that it gets in the cascade of the reference, so that the error of one
    stage does not count in the next. Detections are compared between the two cascades. The stage
    ``paste`` is compared with the masks of the runtime, on the proposals of the bundle.

    Raises:
        InputError: An image cannot be read.
        BackendError: The backend fails.
    """
    paste = _paste_function(bundle)
    accumulators: dict[str, dict[str, Accumulator]] = {}

    def both(stage: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
        expected = reference.functions[stage](inputs)
        for name, run in subject.stages[stage].items():
            found = run(inputs, expected)
            if found is not None:
                of_engine = accumulators.setdefault(name, defaultdict(Accumulator))
                for output, values in expected.items():
                    of_engine[output].add(values, found[output])
        return expected

    compared = {stage: partial(both, stage) for stage in subject.stages}
    options, records = subject.pipeline.options, []
    with function_pipeline(bundle, compared, options) as expecting:
        for number, image in enumerate(images):
            accumulators = {}  # ``both`` reads this variable, so that each image has its own
            expected = run_pipeline(expecting, image)
            found = run_pipeline(subject.pipeline, image)
            stages = {
                name: {output: one.result() for output, one in accumulators[name].items()}
                for runs in subject.stages.values()
                for name in runs
                if name in accumulators
            }
            pasting = None if paste is None else _pasting(bundle, paste, subject.pipeline, image)
            records.append(
                ImageRecord(
                    image=str(image),
                    stages=stages,
                    detections=match(expected, found),
                    pasting=pasting,
                )
            )
            progress("Images", number + 1, len(images))
    return Record(
        bundle=bundle.manifest.name,
        files=stage_digests(bundle),
        reference=reference.name,
        backend=subject.name,
        score_threshold=options.score_threshold,
        precision={name: bundle.manifest.precision_of(name) for name in subject.stages},
        images=tuple(records),
    )


def _call(
    function: Function, inputs: dict[str, Array], expected: Mapping[str, Array]
) -> Mapping[str, Array]:
    del expected
    return function(inputs)


def first_divergence(
    bundle: Bundle,
    reference: Reference,
    images: Sequence[Path],
    tolerances: Mapping[str, float],
    progress: Progress = no_progress,
) -> FirstDivergence | None:
    """Return the first layer that diverges from the reference, or None.

    For each image, the stages are compared in the order of the cascade, with the inputs that they
    get in the cascade of the reference, beginning with the smallest level. The tolerance of a stage
    is its largest accepted difference, as a share of max(1, largest value).
    """
    own = stage_functions(bundle)
    for number, image in enumerate(images):
        for stage, inputs in calls_of(bundle, reference.functions, image):
            expected, found = reference.functions[stage](inputs), own[stage](inputs)
            errors = [relative_error(expected[name], found[name]) for name in expected]
            if not all(error <= tolerances[stage] for error in errors):
                models = reference.model(stage), load_stage(bundle, stage)
                return first_divergent_layer(models, stage, inputs, tolerances[stage], str(image))
        progress("Images", number + 1, len(images))
    return None


def compare_pasting_on(
    bundle: Bundle, images: Sequence[Path]
) -> Iterator[tuple[str, PasteComparison]]:
    """Yield each image with the comparison of the stage ``paste``, if the bundle has that stage."""
    paste = _paste_function(bundle)
    if paste is None:
        return
    with load(bundle.root) as pipeline:
        for image in images:
            yield str(image), _pasting(bundle, paste, pipeline, image)


def _paste_function(bundle: Bundle) -> Function | None:
    if "paste" not in bundle.manifest.stages:
        return None
    return session_function(bundle.stage_path("paste"))


def _pasting(bundle: Bundle, paste: Function, pipeline: Pipeline, image: Path) -> PasteComparison:
    masks = of_windows(pipeline.propose(image).masks)
    return compare_pasting(paste, masks, bundle.manifest.mask.threshold)
