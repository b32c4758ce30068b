# SPDX-License-Identifier: Apache-2.0
"""Inspection of a bundle: its content, and the problems that the checks of its files find."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from foveate.bundle import Bundle, PresetSpec, SourceSpec
from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import FoveateError, ModelError, OptionError
from foveate.export.checks.stage_checks import (
    Dispatched,
    Share,
    check_dispatch,
    check_engine,
    check_names,
    check_precision,
    dispatch,
    engine_shares,
    refused_operators,
    shares,
    summary,
)
from foveate.export.engines import CompileOptions
from foveate.export.engines.shapes import engine_specs
from foveate.export.execution.graph import layers
from foveate.export.execution.stage_model import DOMAIN, load_stage
from foveate.kernels.plugins.build import source_digest
from foveate.system.executors import submit
from foveate.system.gpu import current_gpu
from foveate.system.regular_files import file_digest
from foveate.system.tensorrt import find_runtime


def obstacle(record: EngineMetadata) -> str:
    """Return the most immediate reason why this machine cannot run an engine, or "" if it can.

    It is not a problem: an engine for another GPU or library may be meant for another machine.
    """
    key, gpu = record.key, current_gpu()
    archs = " or ".join(key.archs)
    no_gpu = f"there is no NVIDIA driver, and the engine needs a GPU of {archs}"
    try:
        installed = find_runtime(key.target)
        # Without a GPU the versions can still be compared.
        arch = key.archs[0] if gpu is None else gpu.arch
        record.check_environment(tensorrt=installed.version, cuda=installed.cuda, arch=arch)
    except FoveateError as error:  # not installed, another version, or an unknown target
        return str(error) if gpu is not None else f"{no_gpu}; and {error}"
    return no_gpu if gpu is None else ""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """Content of a stage.

    Args:
        name: Name of the stage.
        file: Path of its file relative to the bundle.
        bytes: Size of the file.
        inputs: Dtype and shape of each input; a dimension that varies is a name.
        outputs: Dtype and shape of each output.
        ranges: Shapes that each input can have according to the manifest.
        parameters: Number of elements of the initializers, without shapes.
        nodes: Number of nodes by operator.
        dispatch: Number of nodes by operator and implementation in ONNX Runtime; in a float16 stage,
            of custom operators only.
        ours: Nodes of Foveate operators.
        claimed: Precision according to the manifest.
        precision: Share of each precision, for the optimum shapes.
        macs: Multiplications for the optimum shapes, of the layers whose shapes are known.
        unknown: Number of layers whose shapes are unknown.
        refused: Standard operators that TensorRT does not support.
        problems: One line per failed check.
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
    """Content of a compiled engine of a bundle, and the reason why it is not run on this machine."""

    plan: str  # relative to the bundle
    record: EngineMetadata | None  # None if it cannot be read
    precision: dict[str, float] | None  # share of layers; None if it is unknown
    problems: tuple[str, ...]
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """Content of a bundle: number of classes, stages, compiled engines, presets, and origin."""

    name: str
    root: str
    classes: int
    stages: tuple[StageReport, ...]
    engines: tuple[EngineReport, ...]
    presets: dict[str, PresetSpec]
    source: SourceSpec
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, without the layers that the engine inspector lists."""
        short = [
            one if one.record is None else replace(one, record=replace(one.record, layers=None))
            for one in self.engines
        ]
        return asdict(replace(self, engines=tuple(short)))


def inspect_bundle(bundle: Bundle) -> BundleReport:
    """Return the content of a bundle and the problems of its files.

    Raises:
        BundleError: The file of a stage is invalid, or ONNX Runtime cannot load it.
    """
    names = tuple(bundle.manifest.stages)
    plans = sorted((bundle.root / "engines").glob("*/*.plan"))
    with ThreadPoolExecutor(len(names)) as pool:
        running = [submit(pool, partial(_stage, bundle, name)) for name in names]
        stages = tuple(one.result() for one in running)
    return BundleReport(
        name=bundle.manifest.name,
        root=str(bundle.root),
        classes=len(bundle.manifest.class_names),
        stages=stages,
        engines=tuple(_engine(bundle, plan) for plan in plans),
        presets=bundle.manifest.presets,
        source=bundle.manifest.source,
        provenance=bundle.manifest.provenance,
    )


def check_report(report: BundleReport) -> None:
    """Check that an inspection found no problem.

    Raises:
        ModelError: There is a problem; the error has the text of the first.
    """
    lists = [stage.problems for stage in report.stages] + [one.problems for one in report.engines]
    for problem in chain.from_iterable(lists):
        raise ModelError(problem)


def _stage(bundle: Bundle, name: str) -> StageReport:
    spec, path = bundle.manifest.stages[name], bundle.stage_path(name)
    model = load_stage(bundle, name)
    problems = _problem(lambda: check_names(name, model))
    nodes = dispatch(model, path)
    claimed = bundle.manifest.precision_of(name)
    # The CPU has few float16 kernels: ONNX Runtime drops casts there, and turns a Relu into a Max.
    checked = [one for one in nodes if one.domain == DOMAIN or claimed != "fp16"]
    problems += _problem(lambda: check_dispatch(name, checked))
    ranges = _ranges(bundle, name)
    # The range of ``size`` is that of its values; its shape is fixed.
    best = {one: shapes.optimum for one, shapes in ranges.items() if one != "size"}
    found = list(layers(model, best))
    precision = shares(found)
    problems += _problem(lambda: check_precision(name, precision, claimed))
    return StageReport(
        name=name,
        file=spec.file,
        bytes=path.stat().st_size,
        inputs={one.name: _signature(one.dtype, one.shape) for one in spec.inputs},
        outputs={one.name: _signature(one.dtype, one.shape) for one in spec.outputs},
        ranges=ranges,
        parameters=sum(
            numpy_helper.to_array(one).size
            for one in model.graph.initializer
            if one.data_type != onnx.TensorProto.INT64
        ),
        nodes=dict(Counter(one.op_type for one in model.graph.node).most_common()),
        dispatch=summary(checked),
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
    problems = _problem(record.check_dispatch)
    if stage in bundle.manifest.stages:
        onnx_digest = file_digest(bundle.stage_path(stage))
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


def _problem(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except FoveateError as error:
        return [str(error)]
    return []


def _ranges(bundle: Bundle, stage: str) -> dict[str, ShapeRange]:
    options = CompileOptions(target="tensorrt-rtx", stages=(stage,))
    try:
        (engine,) = engine_specs(bundle.manifest, options)
    except OptionError:  # the range of a dimension is unknown
        return {}
    return engine.profiles[0]


def _signature(dtype: str, shape: tuple[int | str, ...]) -> str:
    return f"{dtype} {' x '.join(map(str, shape))}"
