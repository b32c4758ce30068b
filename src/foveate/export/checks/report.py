# SPDX-License-Identifier: Apache-2.0
"""What is in a bundle, as values for a table or for JSON."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from foveate.bundle import Bundle, SourceSpec
from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import FoveateError, OptionError
from foveate.export.checks.dispatch import (
    Dispatched,
    check_dispatch,
    check_engine_dispatch,
    dispatch,
    summary,
)
from foveate.export.checks.environment import obstacle
from foveate.export.checks.graph import Shape, layers, sized
from foveate.export.checks.lint import check_names, refused_operators
from foveate.export.checks.precision import (
    Share,
    check_engine,
    check_precision,
    engine_shares,
    shares,
)
from foveate.export.engines import CompileOptions
from foveate.export.engines.ranges import plan_engines
from foveate.export.engines.stage_model import DOMAIN, load_stage
from foveate.kernels.plugins.build import source_digest


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What is in a stage.

    Attributes:
        name: of the stage.
        file: relative to the bundle.
        bytes: of the file.
        inputs: name -> dtype and shape, a varying length by its name.
        outputs: the same.
        ranges: input -> the smallest, best and largest shape that the manifest leads to.
        parameters: elements of the initialisers that hold numbers, not shapes.
        nodes: operator -> how many.
        dispatch: operator -> implementation in ONNX Runtime -> how many.
        ours: nodes of our domain, with what ONNX Runtime runs them with.
        claimed: precision that the manifest says.
        precision: precision -> share, at the best shapes.
        macs: multiplications at the best shapes, of the layers whose shapes are known.
        unknown: layers whose shapes are not.
        refused: standard operators in it that TensorRT has not.
        problems: one line for each check that failed.
    """

    name: str
    file: str
    bytes: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    ranges: dict[str, ShapeRange]
    parameters: int
    nodes: dict[str, int]
    dispatch: dict[str, dict[str, int]]
    ours: tuple[Dispatched, ...]
    claimed: str
    precision: dict[str, Share]
    macs: int
    unknown: int
    refused: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """An engine that stands in a bundle; `record` is None if it cannot be read.

    `obstacle` says why it is not run on this machine.
    """

    plan: str
    record: EngineMetadata | None
    precision: dict[str, float] | None
    problems: tuple[str, ...]
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """What is in a bundle."""

    name: str
    root: str
    classes: int
    stages: tuple[StageReport, ...]
    engines: tuple[EngineReport, ...]
    source: SourceSpec
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as values for JSON, without the inspectors' lists of layers."""
        short = [
            one if one.record is None else replace(one, record=replace(one.record, layers=None))
            for one in self.engines
        ]
        return asdict(replace(self, engines=tuple(short)))


def inspect_bundle(bundle: Bundle) -> BundleReport:
    """Say what is in a bundle. What is wrong with it stands in `problems`.

    Raises:
        BundleError: a stage's file is none of ours, or ONNX Runtime cannot load it.
    """
    names = tuple(bundle.manifest.stages)
    with ThreadPoolExecutor(len(names)) as pool:
        stages = tuple(pool.map(lambda name: _stage(bundle, name), names))
    return BundleReport(
        name=bundle.manifest.name,
        root=str(bundle.root),
        classes=len(bundle.manifest.class_names),
        stages=stages,
        engines=tuple(_engine(bundle, plan) for plan in sorted(_plans(bundle))),
        source=bundle.manifest.source,
        provenance=bundle.manifest.provenance,
    )


def check_report(report: BundleReport) -> str | None:
    """Return the first problem, of a stage or of an engine; None if there is none."""
    found = [line for stage in report.stages for line in stage.problems]
    found += [line for engine in report.engines for line in engine.problems]
    return found[0] if found else None


def _stage(bundle: Bundle, name: str) -> StageReport:
    spec, path = bundle.manifest.stages[name], bundle.stage_path(name)
    model = load_stage(path, name, spec)
    problems = _problem(lambda: check_names(name, model))
    nodes = dispatch(model, path)
    claimed = bundle.manifest.precision_of(name)
    # The CPU has few float16 kernels: ONNX Runtime drops casts there, and writes a Relu as a Max.
    checked = [one for one in nodes if one.domain == DOMAIN or claimed != "fp16"]
    problems += _problem(lambda: check_dispatch(name, checked))
    ranges = _ranges(bundle, name)
    found = list(layers(sized(model, _best(bundle, name, ranges))))
    precision = shares(found)
    problems += _problem(lambda: check_precision(name, precision, claimed))
    return StageReport(
        name=name,
        file=spec.file,
        bytes=path.stat().st_size,
        inputs={one.name: _signature(one.dtype, one.shape) for one in spec.inputs},
        outputs={one.name: _signature(one.dtype, one.shape) for one in spec.outputs},
        ranges=ranges,
        parameters=_parameters(model),
        nodes=dict(Counter(one.op_type for one in model.graph.node).most_common()),
        dispatch=summary(nodes),
        ours=tuple(one for one in nodes if one.domain == DOMAIN),
        claimed=claimed,
        precision=precision,
        macs=sum(one.macs or 0 for one in found),
        unknown=sum(one.macs is None for one in found),
        refused=tuple(refused_operators(model)),
        problems=tuple(problems),
    )


def _engine(bundle: Bundle, plan: Path) -> EngineReport:
    name = plan.relative_to(bundle.root).as_posix()
    try:
        record = read_metadata(plan)
    except FoveateError as error:
        return EngineReport(plan=name, record=None, precision=None, problems=(str(error),))
    stage = record.key.stage
    problems = _problem(lambda: check_engine_dispatch(record))
    if stage in bundle.manifest.stages:
        content = bundle.stage_path(stage).read_bytes()
        onnx_digest = hashlib.sha256(content).hexdigest()
        plugins = None if record.key.plugins is None else source_digest()
        problems += _problem(lambda: record.check_sources(onnx=onnx_digest, plugins=plugins))
        claimed = bundle.manifest.precision_of(stage)
        problems += _problem(lambda: check_engine(record.name, record.layers, claimed))
    return EngineReport(
        plan=name,
        record=record,
        precision=engine_shares(record.layers),
        problems=tuple(problems),
        obstacle=obstacle(record),
    )


def _plans(bundle: Bundle) -> list[Path]:
    return list((bundle.root / "engines").glob("*/*.plan"))


def _problem(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except FoveateError as error:
        return [str(error)]
    return []


def _ranges(bundle: Bundle, stage: str) -> dict[str, ShapeRange]:
    options = CompileOptions(target="tensorrt-rtx", stages=(stage,))
    try:
        (engine,) = plan_engines(bundle.manifest, options)
    except OptionError:  # a dimension that no rule knows: the stage has no ranges to tell
        return {}
    return engine.profiles[0]


def _best(bundle: Bundle, stage: str, ranges: dict[str, ShapeRange]) -> dict[str, Shape]:
    # The range of a size is of its values, and its shape is fixed.
    names = [one.name for one in bundle.manifest.stages[stage].inputs if one.name != "size"]
    return {name: ranges[name].optimum for name in names if name in ranges}


def _parameters(model: onnx.ModelProto) -> int:
    tensors = [one for one in model.graph.initializer if one.data_type != onnx.TensorProto.INT64]
    return sum(numpy_helper.to_array(one).size for one in tensors)


def _signature(dtype: str, shape: tuple[int | str, ...]) -> str:
    return f"{dtype} {' x '.join(map(str, shape))}"
