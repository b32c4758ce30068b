# SPDX-License-Identifier: Apache-2.0
"""The limits of a bundle on one image: work, ceilings, rooflines and predictions, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foveate.bench.ceilings import Ceilings
from foveate.bench.gpus import GPUS, Prediction, predict
from foveate.bench.image_shapes import image_shapes
from foveate.bench.work import StageWork, count_work
from foveate.bundle import Bundle
from foveate.bundle.manifest import Manifest
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The limit of a stage on the machine whose ceilings were measured.

    Args:
        intensity: Operations per byte of weights, inputs and outputs.
        compute_ceiling: Highest rate of the stage's own mix of layers, in FLOP/s; null if the stage
            has no such layers, or the rate of one of its kinds was not measured.
        memory_ceiling: Bandwidth times intensity, in FLOP/s.
        bound: The lower ceiling: "arithmetic" or "memory"; null if the compute ceiling of a stage
            with operations is not known.
        least_seconds: Least time per image that both ceilings allow; null like ``bound``.
        seconds: Measured time per image; null if there is none.
        reached: Rate of the measured time, in FLOP/s.
        ratio: Least time divided by measured time: 1 at the ceiling, above 1 by noise, or where
            tensors between two stages stay in the caches.
    """

    intensity: float
    compute_ceiling: float | None
    memory_ceiling: float
    bound: str | None
    least_seconds: float | None
    seconds: float | None
    reached: float | None
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class KindWork:
    """Operations of a stage of one kind.

    Args:
        kind: "dense", "pointwise" or "depthwise" for convolutions, "product" for matrix products.
        precision: Precision in which ONNX Runtime computes them on the CPU.
        operations: Multiplications and additions per image.
    """

    kind: str
    precision: str
    operations: int


@dataclass(frozen=True, kw_only=True)
class StageLimit:
    """Work of a stage for one image, and what limits it.

    Args:
        runs: Number of runs of the network per image.
        operations: Multiplications and additions of convolutions and matrix products.
        bytes: Bytes of weights, inputs and outputs of all runs, the least to move.
        node_bytes: Bytes that all nodes move, as if nothing between two nodes stayed in a cache.
        kinds: The operations by kind and precision.
        roofline: The limit on this machine; null on a GPU, whose ceilings are not measured.
        predictions: Predicted times on other machines.
    """

    runs: int
    operations: int
    bytes: int
    node_bytes: int
    kinds: tuple[KindWork, ...]
    roofline: Roofline | None
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What limits the stages of a bundle on one image.

    Args:
        ceilings: Measured ceilings of the CPU; null on a GPU, whose ceilings are not measured.
        stages: Work and limit of each stage, by name.
    """

    ceilings: Ceilings | None
    stages: dict[str, StageLimit]


def count_stages(
    bundle: Bundle, manifest: Manifest, sizes: Sizes, *, boxes: int, on_cpu: bool, threads: int
) -> dict[str, StageWork]:
    """Count the work of every stage for one image, by one run of each stage on the CPU.

    Args:
        bundle: Bundle with the ONNX files.
        manifest: Its manifest, with the options of the pipeline applied.
        sizes: Sizes of the image.
        boxes: Number of proposals that are classified.
        on_cpu: Whether the pipeline runs on the CPU, where refine takes a few windows at a time.
        threads: Number of threads for these runs.

    Raises:
        BundleError: ONNX Runtime cannot load a stage.
        BackendError: ONNX Runtime cannot run a stage, or memory runs out.
    """
    rows = CpuEngine.rows_at_once if on_cpu else None
    shapes = image_shapes(manifest, sizes, boxes=boxes, rows_at_once=rows)
    return {
        stage: count_work(bundle.stage_path(stage), runs, threads=threads)
        for stage, runs in shapes.items()
    }


def limits_of(
    work: Mapping[str, StageWork],
    manifest: Manifest,
    ceilings: Ceilings | None,
    seconds: Mapping[str, float],
) -> Limits:
    """Relate measured times of stages to the ceilings of the CPU.

    Args:
        work: Work of each stage for one image, from :func:`count_stages`.
        manifest: Manifest of the bundle.
        ceilings: Measured ceilings of the CPU; None on a GPU.
        seconds: Measured time per image of the stages that were timed.
    """
    return Limits(
        ceilings=ceilings,
        stages={
            stage: _limit(one, ceilings, seconds.get(stage), manifest.precision_of(stage))
            for stage, one in work.items()
        },
    )


def _limit(
    work: StageWork, ceilings: Ceilings | None, seconds: float | None, precision: str
) -> StageLimit:
    kinds = (
        KindWork(kind=kind, precision=computed, operations=operations)
        for (kind, computed), operations in work.operations_by_kind().items()
    )
    return StageLimit(
        runs=len(work.runs),
        operations=work.operations,
        bytes=work.bytes,
        node_bytes=work.node_bytes,
        kinds=tuple(kinds),
        roofline=None if ceilings is None else roofline(work, ceilings, seconds),
        predictions=tuple(predict(work, precision, gpu) for gpu in GPUS),
    )


def roofline(work: StageWork, ceilings: Ceilings, seconds: float | None = None) -> Roofline:
    """Return the limit of a stage and, if its time per image is known, how near it comes to it.

    Layers of different kinds follow each other, so that the compute ceiling of a stage is the
    harmonic mean of those of its kinds, weighted by their operations.
    """
    memory = work.bytes / ceilings.bandwidth
    arithmetic = _arithmetic_seconds(work, ceilings)
    bound = least = None
    if arithmetic is not None:
        bound = "arithmetic" if arithmetic >= memory else "memory"
        least = max(arithmetic, memory)
    return Roofline(
        intensity=work.operations / work.bytes,
        compute_ceiling=work.operations / arithmetic if arithmetic else None,
        memory_ceiling=work.operations / memory,
        bound=bound,
        least_seconds=least,
        seconds=seconds,
        reached=None if seconds is None else work.operations / seconds,
        ratio=None if least is None or seconds is None else least / seconds,
    )


def _arithmetic_seconds(work: StageWork, ceilings: Ceilings) -> float | None:
    """Return the least time for the arithmetic, or None if a rate was not measured."""
    total = 0.0
    for (kind, precision), operations in work.operations_by_kind().items():
        rate = ceilings.flops(kind, precision)
        if rate is None:
            return None
        total += operations / rate
    return total
