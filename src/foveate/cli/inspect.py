# SPDX-License-Identifier: Apache-2.0
"""``foveate inspect``: show the contents of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line, write_stdout
from foveate.cli._options import BundleArgument
from foveate.cli._presets import preset_lines
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.bundle.engine_key import ShapeRange
    from foveate.export.checks.bundle_report import BundleReport, EngineReport, StageReport


def command(
    bundle: BundleArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the stages and engines of a bundle, how they are executed, and their precision."""
    from foveate.bundle import Bundle
    from foveate.export.checks.bundle_report import check_report, inspect_bundle
    from foveate.plain_text import json_text

    report = inspect_bundle(Bundle.open(bundle))
    if as_json:
        write_stdout(json_text(report.to_dict(), indent=2))
    else:
        for line in _lines(report):
            print_line(line)
    check_report(report)  # after the output, which shows the problem in detail


def _lines(report: BundleReport) -> Iterator[str]:
    networks = ", ".join(one.name for one in report.source.networks) or "unknown networks"
    classes = counted(report.classes, "class", "classes")
    yield f"{report.name}: {networks}; {classes}; {report.root}"
    if "weights_sha256" in report.provenance:
        yield f"  weights_sha256 {report.provenance['weights_sha256']}"
    tools = report.provenance.get("tools", {})
    if tools:
        yield "  written with " + ", ".join(f"{name} {version}" for name, version in tools.items())
    yield from preset_lines(report.presets)
    for stage in report.stages:
        yield ""
        yield from _stage(stage)
    if report.engines:
        yield ""
    for engine in report.engines:
        yield from _engine(engine)


def _stage(stage: StageReport) -> Iterator[str]:
    layers = counted(stage.unknown, "layer", "layers")
    unknown = f", excluding {layers} of unknown shape" if stage.unknown else ""
    yield (
        f"{stage.name}  {stage.file}  {stage.bytes / 1e6:.2f} MB  {stage.parameters:,} parameters  "
        f"{stage.macs / 1e9:.3f} G multiply-adds{unknown}"
    )
    for word, tensors in (("in", stage.inputs), ("out", stage.outputs)):
        for name, signature in tensors.items():
            yield f"  {word:9} {name:14} {signature}{_range(stage.ranges.get(name), word)}"
    yield "  operators " + ", ".join(f"{op} {count}" for op, count in stage.nodes.items())
    bodies = [f"{op} {of['body']}" for op, of in stage.dispatch.items() if "body" in of]
    yield "  dispatch  " + (
        f"function body: {', '.join(bodies)}; the rest: ONNX Runtime kernels"
        if bodies
        else "ONNX Runtime kernels"
    )
    for name, share in stage.precision.items():
        yield (
            f"  precision {name}: {share.nodes:.0%} of layers, {share.parameters:.0%} of "
            f"parameters, {share.macs:.0%} of multiply-adds (declared: {stage.claimed})"
        )
    if stage.refused:
        yield f"  note      TensorRT does not support {', '.join(stage.refused)}"
    for problem in stage.problems:
        yield f"  problem   {problem}"


def _range(found: ShapeRange | None, word: str) -> str:
    if found is None or word == "out" or found.minimum == found.maximum:
        return ""
    return f"  ({found}, typically {'x'.join(map(str, found.optimum))})"


def _engine(engine: EngineReport) -> Iterator[str]:
    record = engine.record
    if record is not None:
        key = record.key
        custom = ", ".join(f"{op} {how}" for op, how in sorted(record.dispatch.items())) or "none"
        yield (
            f"{engine.plan}  {key.target} {key.tensorrt}, CUDA {key.cuda}  {' '.join(key.archs)}  "
            f"{record.plan.size / 1e6:.2f} MB  key {key.digest()[:12]}  custom operators: {custom}"
        )
        if engine.precision is not None:
            shares = sorted(engine.precision.items())
            yield "  precision " + ", ".join(f"{name} {share:.0%}" for name, share in shares)
        else:
            yield "  precision unknown: the engine was never loaded on the machine that built it"
        if engine.obstacle:
            yield f"  note      not run here: {engine.obstacle}"
        bodies = [op for op, how in sorted(record.dispatch.items()) if how == "body"]
        if bodies:
            yield f"  note      {', '.join(bodies)}: many standard operators in place of a plugin"
    for problem in engine.problems:
        yield f"  problem   {engine.plan}: {problem}"
