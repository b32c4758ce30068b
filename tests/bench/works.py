# SPDX-License-Identifier: Apache-2.0
"""Work and ceilings of round numbers, for tests of what is derived from them."""

from __future__ import annotations

from foveate.bench.ceilings import Ceilings, Rate
from foveate.bench.work import Kind, NodeWork, RunWork, StageWork


def node_work(
    operations: int, *, kind: Kind = "dense", precision: str = "fp32", moved: int = 0
) -> NodeWork:
    """Return a node with so many operations, which reads ``moved`` bytes of tensors."""
    return NodeWork(
        name="node",
        kind=kind,
        precision=precision,
        operations=operations,
        weight_bytes=0,
        read_bytes=moved,
        written_bytes=0,
    )


def stage_work(*nodes: NodeWork, moved: int = 100, runs: int = 1) -> StageWork:
    """Return a stage with these nodes, whose inputs have ``moved`` bytes, run several times."""
    run = RunWork(nodes=nodes, input_bytes=moved, output_bytes=0)
    return StageWork(runs=(run,) * runs)


def rate(name: str, value: float, precision: str | None = None) -> Rate:
    return Rate(
        name=name,
        precision=precision,
        workload="none",
        unit="B/s" if precision is None else "FLOP/s",
        median=value,
        low=value,
        high=value,
        repeats=5,
    )


CEILINGS = Ceilings(
    threads=1,
    cache_bytes=None,
    array_bytes=4096,
    arithmetic=(
        rate("dense", 100.0, "fp32"),
        rate("dense", 80.0, "fp32"),
        rate("depthwise", 10.0, "fp32"),
        rate("dense", 400.0, "int8"),
    ),
    memory=(rate("copy", 8.0), rate("triad", 10.0)),
)
