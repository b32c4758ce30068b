# SPDX-License-Identifier: Apache-2.0
"""Every stage and the whole cascade on real pictures: the bundle against a reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.detections import Detections, Proposals
from foveate.export.inspection.precision import claimed_precision
from foveate.export.verification.matching import match
from foveate.export.verification.pasting import Pasted, paste_parity
from foveate.export.verification.record import PictureParity, Record, stage_digests
from foveate.export.verification.reference import Reference
from foveate.export.verification.sessions import Function, session_function
from foveate.export.verification.statistics import Tally
from foveate.export.verification.subject import (
    bundle_pipeline,
    function_pipeline,
    stage_functions,
)
from foveate.runtime import Options, Pipeline, load
from foveate.scores import MIN_SCORE

__all__ = ["calls_of", "measure", "pasting_on", "reference_pipeline"]

Call = tuple[str, dict[str, Array]]


def measure(
    bundle: Bundle,
    reference: Reference,
    pictures: Sequence[Path],
    *,
    min_score: float = MIN_SCORE,
    rounded: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Record:
    """Compare a bundle on ONNX Runtime with a reference.

    Each stage gets the inputs that the reference's cascade gives it, so that an error of one stage
    does not count in the next. The detections are those of both cascades, each on its own. The stage
    `paste` is compared with the runtime's own masks, on the bundle's proposals.

    Args:
        bundle: to be verified.
        reference: what it should compute.
        pictures: files.
        min_score: smallest score of a detection.
        rounded: whether stages in fp16 round as a GPU does; see `stage_functions`.
        tell: is told the number of pictures done, and of all.

    Raises:
        InputError: a picture cannot be read.
        OptionError: `rounded` is asked for, and no stage is in fp16.
    """
    options = Options(min_score=min_score)
    own = stage_functions(bundle, rounded=rounded)
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
        bundle_pipeline(bundle, options, rounded=rounded) as finding,
    ):
        for number, picture in enumerate(pictures):
            tallies = {stage: defaultdict(Tally) for stage in bundle.manifest.networks}
            matched = match(_results(expecting, picture), _results(finding, picture))
            stages = {
                stage: {name: tally.result() for name, tally in of.items()}
                for stage, of in tallies.items()
            }
            one = PictureParity(
                picture=str(picture),
                stages=stages,
                detections=matched,
                pasting=pasting(finding, picture),
            )
            done.append(one)
            if tell is not None:
                tell(number + 1, len(pictures))
    return Record(
        bundle=bundle.manifest.name,
        files=stage_digests(bundle),
        reference=reference.name,
        backend="ONNX Runtime on the CPU" + (", float16 rounded" if rounded else ""),
        min_score=min_score,
        precision={name: claimed_precision(bundle.manifest, name) for name in own},
        pictures=tuple(done),
    )


def reference_pipeline(bundle: Bundle, reference: Reference, options: Options) -> Pipeline:
    """Make the bundle's pipeline with the reference in place of its networks."""
    return function_pipeline(
        bundle, lambda stage, inputs: reference.functions[stage](inputs), options
    )


def calls_of(bundle: Bundle, functions: Mapping[str, Function], picture: Path) -> Iterator[Call]:
    """Yield the inputs that each stage gets on a picture, by stage and then the smallest first."""
    calls: dict[str, list[dict[str, Array]]] = {name: [] for name in bundle.manifest.networks}

    def recorded(stage: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
        calls[stage].append({name: array.copy() for name, array in inputs.items()})
        return functions[stage](inputs)

    with function_pipeline(bundle, recorded, Options()) as pipeline:
        _results(pipeline, picture)
    for stage, found in calls.items():
        for inputs in sorted(found, key=lambda one: sum(array.size for array in one.values())):
            yield stage, inputs


def pasting_on(bundle: Bundle, pictures: Sequence[Path]) -> Iterator[tuple[str, Pasted]]:
    """Compare the stage `paste`, if there is one, with the runtime's own masks, by picture."""
    pasting = _pasting(bundle)
    with load(bundle.root) as pipeline:
        for picture in pictures:
            found = pasting(pipeline, picture)
            if found is not None:
                yield str(picture), found


def _pasting(bundle: Bundle) -> Callable[[Pipeline, Path], Pasted | None]:
    if "paste" not in bundle.manifest.stages:
        return lambda _pipeline, _picture: None
    stage = session_function(bundle.stage_path("paste"))
    threshold = bundle.manifest.mask.threshold
    return lambda pipeline, picture: paste_parity(stage, pipeline.propose(picture).masks, threshold)


def _results(pipeline: Pipeline, picture: Path) -> Detections | Proposals:
    if "classify" in pipeline.engines:
        return pipeline(picture)
    return pipeline.propose(picture)
