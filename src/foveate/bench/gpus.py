# SPDX-License-Identifier: Apache-2.0
"""Data sheet figures of GPUs, and predicted times of a stage on them."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.bench.work import NodeWork, RunWork, StageWork

REACH = 0.5
"""Share of the peak rate that predictions assume."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The data sheet figures of a GPU, without sparsity.

    Args:
        bandwidth: Bytes per second.
        fp64: Operations per second in float64.
        fp32: Operations per second in float32, outside of tensor cores.
        fp16: Operations per second in float16 in tensor cores, with sums in float32.
        int8: Operations per second in tensor cores.
        source: Document with these figures.
    """

    name: str
    bandwidth: float
    fp64: float
    fp32: float
    fp16: float
    int8: float
    source: str

    def peak(self, precision: str) -> float:
        """Return the operations per second in a precision; those in float32 for unknown ones."""
        known = {"fp64": self.fp64, "fp16": self.fp16, "int8": self.int8}
        return known.get(precision, self.fp32)


# float64 is 1/2 of float32 on H100 and 1/64 on the others.
GPUS = (
    Gpu(
        name="H100",
        bandwidth=3.35e12,
        fp64=33.5e12,
        fp32=67e12,
        fp16=989e12,
        int8=1979e12,
        source="NVIDIA H100 Tensor Core GPU data sheet, SXM",
    ),
    Gpu(
        name="L4",
        bandwidth=0.30e12,
        fp64=30.3e12 / 64,
        fp32=30.3e12,
        fp16=121e12,
        int8=242e12,
        source="NVIDIA L4 Tensor Core GPU data sheet",
    ),
    Gpu(
        name="RTX 4090",
        bandwidth=1.008e12,
        fp64=82.6e12 / 64,
        fp32=82.6e12,
        fp16=165.2e12,
        int8=660.6e12,
        source="NVIDIA Ada GPU architecture white paper",
    ),
    Gpu(
        name="Jetson Orin",
        bandwidth=0.2048e12,
        fp64=5.3e12 / 64,
        fp32=5.3e12,
        fp16=42.5e12,
        int8=85e12,
        source="NVIDIA Jetson AGX Orin series technical brief, 64 GB",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted, not measured, time of a stage for one image on a GPU.

    Args:
        gpu: Name of the GPU.
        precision: Precision of the arithmetic.
        least_seconds: Time if only weights, inputs and outputs of each run go through memory.
        most_seconds: Time if each node reads and writes memory, as if nothing was fused.
        source: Document with the figures of the GPU.
        origin: Always "predicted", since a record has measured times as well.
    """

    gpu: str
    precision: str
    least_seconds: float
    most_seconds: float
    source: str
    origin: str = "predicted"


def predict(work: StageWork, precision: str, gpu: Gpu) -> Prediction:
    """Predict the time of a stage on a GPU, without launches.

    The time is the larger of operations over half of the peak rate, and bytes over bandwidth: of
    each run as a whole, and of each of its nodes.

    Args:
        work: Work of the stage per image.
        precision: Precision of the stage in the bundle: ``"fp32"``, ``"fp16"`` or ``"int8"``. Layers
            of an int8 stage that stayed in float32 are predicted in float32.
        gpu: GPU to predict for.
    """
    return Prediction(
        gpu=gpu.name,
        precision=precision,
        least_seconds=sum(_run_seconds(run, precision, gpu) for run in work.runs),
        most_seconds=sum(
            max(_arithmetic(node, precision, gpu), _bytes(node.bytes, precision) / gpu.bandwidth)
            for node in work.nodes
        ),
        source=gpu.source,
    )


def _run_seconds(run: RunWork, precision: str, gpu: Gpu) -> float:
    arithmetic = sum(_arithmetic(node, precision, gpu) for node in run.nodes)
    moved = _bytes(run.weight_bytes, precision) + run.input_bytes + run.output_bytes
    return max(arithmetic, moved / gpu.bandwidth)


def _arithmetic(node: NodeWork, precision: str, gpu: Gpu) -> float:
    # A CPU executes float16 in float32.
    own = precision if precision == "fp16" else node.precision
    return node.operations / (REACH * gpu.peak(own))


def _bytes(counted: int, precision: str) -> float:
    """Return the bytes on a GPU, where only small islands of a float16 stage are float32."""
    return counted / 2 if precision == "fp16" else counted
