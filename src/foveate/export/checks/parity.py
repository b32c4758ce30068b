# SPDX-License-Identifier: Apache-2.0
"""Every stage and the whole cascade on real images: the bundle against a reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.checks.matching import match
from foveate.export.checks.pasting import Pasted, paste_parity
from foveate.export.checks.record import ImageParity, Record, stage_digests
from foveate.export.checks.statistics import Tally
from foveate.export.execution.reference import Reference
from foveate.export.execution.sessions import Function, session_function
from foveate.export.execution.subject import (
    bundle_pipeline,
    function_pipeline,
    stage_functions,
)
from foveate.results.detections import Detections, Proposals
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD

Call = tuple[str, dict[str, Array]]


def measure(
    bundle: Bundle,
    reference: Reference,
    images: Sequence[Path],
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    emulate_fp16: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Record:
    """Compare a bundle on ONNX Runtime with a reference.

    Each stage gets the inputs that the reference's cascade gives it, so that an error of one stage
    does not count in the next. The detections are those of both cascades, each on its own. The stage
    `paste` is compared with the runtime's own masks, on the bundle's proposals.

    Args:
        bundle: to be verified.
        reference: what it should compute.
        images: files.
        score_threshold: smallest score of a detection.
        emulate_fp16: whether stages in fp16 round as a GPU does; see `stage_functions`.
        tell: is told the number of images done, and of all.

    Raises:
        InputError: an image cannot be read.
        OptionError: `emulate_fp16` is asked for, and no stage is in fp16.
    """
    options = PipelineOptions(score_threshold=score_threshold)
    own = stage_functions(bundle, emulate_fp16=emulate_fp16)
    pasting = _pasting(bundle)
    tallies: dict[str, dict[str, Tally]] = {}

    def both(stage: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
        expected, found = reference.functions[stage](inputs), own[stage](inputs)
        for name, values in expected.items():
            tallies[stage][name].add(values, found[name])
        return expected

    done = []
    with (
        function_pipeline(bundle, both, options) as expecting,
        bundle_pipeline(bundle, options, emulate_fp16=emulate_fp16) as finding,
    ):
        for number, image in enumerate(images):
            tallies = {stage: defaultdict(Tally) for stage in bundle.manifest.networks}
            matched = match(_results(expecting, image), _results(finding, image))
            stages = {
                stage: {name: tally.result() for name, tally in of.items()}
                for stage, of in tallies.items()
            }
            one = ImageParity(
                image=str(image),
                stages=stages,
                detections=matched,
                pasting=pasting(finding, image),
            )
            done.append(one)
            if tell is not None:
                tell(number + 1, len(images))
    return Record(
        bundle=bundle.manifest.name,
        files=stage_digests(bundle),
        reference=reference.name,
        backend="ONNX Runtime on the CPU" + (", float16 emulated" if emulate_fp16 else ""),
        score_threshold=score_threshold,
        precision={name: bundle.manifest.precision_of(name) for name in own},
        images=tuple(done),
    )


def reference_pipeline(bundle: Bundle, reference: Reference, options: PipelineOptions) -> Pipeline:
    """Make the bundle's pipeline with the reference in place of its networks."""
    return function_pipeline(
        bundle, lambda stage, inputs: reference.functions[stage](inputs), options
    )


def calls_of(bundle: Bundle, functions: Mapping[str, Function], image: Path) -> Iterator[Call]:
    """Yield the inputs that each stage gets on an image, by stage and then the smallest first."""
    calls: dict[str, list[dict[str, Array]]] = {name: [] for name in bundle.manifest.networks}

    def recorded(stage: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
        calls[stage].append({name: array.copy() for name, array in inputs.items()})
        return functions[stage](inputs)

    with function_pipeline(bundle, recorded, PipelineOptions()) as pipeline:
        _results(pipeline, image)
    for stage, found in calls.items():
        for inputs in sorted(found, key=lambda one: sum(array.size for array in one.values())):
            yield stage, inputs


def pasting_on(bundle: Bundle, images: Sequence[Path]) -> Iterator[tuple[str, Pasted]]:
    """Compare the stage `paste`, if there is one, with the runtime's own masks, by image."""
    pasting = _pasting(bundle)
    with load(bundle.root) as pipeline:
        for image in images:
            found = pasting(pipeline, image)
            if found is not None:
                yield str(image), found


def _pasting(bundle: Bundle) -> Callable[[Pipeline, Path], Pasted | None]:
    if "paste" not in bundle.manifest.stages:
        return lambda _pipeline, _image: None
    stage = session_function(bundle.stage_path("paste"))
    threshold = bundle.manifest.mask.threshold
    return lambda pipeline, image: paste_parity(stage, pipeline.propose(image).masks, threshold)


def _results(pipeline: Pipeline, image: Path) -> Detections | Proposals:
    if "classify" in pipeline.engines:
        return pipeline(image)
    return pipeline.propose(image)
