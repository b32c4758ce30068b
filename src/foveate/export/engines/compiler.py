# SPDX-License-Identifier: Apache-2.0
"""A bundle's stages to engines: from the cache where they are there, built where they are not."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from foveate.bundle import Bundle
from foveate.bundle.engine_key import EngineKey
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.manifest import FileSpec
from foveate.errors import BackendError
from foveate.export.engines.cache import EngineCache
from foveate.export.engines.gpu import Gpu, current_gpu
from foveate.export.engines.options import CompileOptions
from foveate.export.engines.plugins import check_library
from foveate.export.engines.process import run_build
from foveate.export.engines.ranges import EnginePlan, plan_engines
from foveate.export.engines.request import BuildRequest
from foveate.export.engines.stage_model import load_stage
from foveate.export.engines.targets import TARGETS, Installed, find_installed
from foveate.export.engines.turing import TURING, check_products
from foveate.kernels.plugins.build import source_digest
from foveate.system.files import open_output, write_file

RECIPE = 1
"""Raised when what we do with the same file and options changes, so that old engines miss."""
PORTABLE = ("sm_80", "sm_86", "sm_89", "sm_120")
"""What is built for without a GPU and without a word on it: as TensorRT for RTX does by itself."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An engine of a bundle that is to be had: its plan and its key."""

    engine: EnginePlan
    key: EngineKey
    onnx: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an engine.

    Attributes:
        plan: where it is now, its record beside it.
        record: what the record says.
        why: had to be built; None if it came from the cache.
    """

    plan: Path
    record: EngineMetadata
    why: str | None


def wanted_engines(bundle: Bundle, options: CompileOptions) -> list[Wanted]:
    """List the engines that a bundle becomes with their keys; every stage's file is checked.

    Raises:
        FoveateError: The target is not installed, has no GPU to build for or no product for it that
            a stage needs, or a file is none of ours.
    """
    installed, gpu = find_installed(options.target), current_gpu()
    sources = None
    if options.plugins is not None:
        sources = source_digest()
        check_library(options.plugins, sources)
    archs = _archs(options, gpu)
    engines = plan_engines(bundle.manifest, options)
    for stage in {engine.stage for engine in engines}:
        file = bundle.stage_path(stage)
        model = load_stage(file, stage, bundle.manifest.stages[stage])
        if installed.target.cross and TURING in archs:
            check_products(model, stage, file)
    return [
        Wanted(
            engine=engine,
            key=_key(bundle, engine, options, installed, archs, sources),
            onnx=bundle.stage_path(engine.stage),
        )
        for engine in engines
    ]


def compile_bundle(
    bundle: Bundle,
    options: CompileOptions,
    cache: EngineCache,
    *,
    output: Path | None = None,
    progress: Callable[[str, int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Outcome]:
    """Make the engines of a bundle, one after the other.

    Args:
        bundle: to compile.
        options: what is asked for.
        cache: where engines are looked for and kept.
        output: folder of the engines; ``engines/<target>`` of the bundle by default.
        progress: is told the name of an engine and the share that is done, in percent.
        waiting: is told the name of an engine that another process is building.

    Yields:
        Each engine, when it is in its place.

    Raises:
        FoveateError: An engine cannot be built or written. Those before it stay.
    """
    folder = output or bundle.root / "engines" / options.target
    for wanted in wanted_engines(bundle, options):
        name = wanted.engine.name
        build = partial(_build, wanted, options, progress and partial(progress, name))
        with cache.obtain(wanted.key, build, waiting and partial(waiting, name)) as cached:
            plan, record, why = cached
            # Another bundle with the same file may have made it under another name.
            named = replace(record, name=name)
            outcome = Outcome(plan=_place(plan, named, folder), record=named, why=why)
        yield outcome


def _key(
    bundle: Bundle,
    engine: EnginePlan,
    options: CompileOptions,
    installed: Installed,
    archs: tuple[str, ...],
    sources: str | None,
) -> EngineKey:
    file = bundle.manifest.stages[engine.stage].file
    return EngineKey(
        target=options.target,
        stage=engine.stage,
        onnx=bundle.manifest.files[file].sha256,
        plugins=sources,
        tensorrt=installed.version,
        cuda=installed.cuda,
        archs=archs,
        options={**options.builder_options(), "recipe": RECIPE},
        profiles=engine.profiles,
    )


def _archs(options: CompileOptions, gpu: Gpu | None) -> tuple[str, ...]:
    """Return the compute capabilities to build for."""
    if TARGETS[options.target].cross:
        chosen = options.archs or ((gpu.arch,) if gpu is not None else PORTABLE)
        return tuple(sorted(set(chosen), key=lambda arch: int(arch[3:])))
    if gpu is None:
        raise BackendError(
            f"{options.target} builds for the GPU of this machine, but no driver works here",
            remedy="run it on the GPU's machine, or use --target tensorrt-rtx, which needs none",
        )
    if options.archs and options.archs != (gpu.arch,):
        raise BackendError(
            f"{options.target} builds for the GPU of this machine, {gpu.arch} ({gpu.name}), found "
            f"--arch {options.archs[0]}",
            remedy="run it on that GPU's machine, or omit --arch",
        )
    return (gpu.arch,)


def _build(
    wanted: Wanted, options: CompileOptions, progress: Callable[[int], None] | None, plan: Path
) -> EngineMetadata:
    gpu, began = current_gpu(), time.monotonic()
    request = BuildRequest(
        target=options.target,
        stage=wanted.engine.stage,
        onnx=str(wanted.onnx),
        plan=str(plan),
        archs=wanted.key.archs,
        profiles=wanted.engine.profiles,
        options=wanted.key.options,
        timing_cache=None if options.timing_cache is None else str(options.timing_cache),
        plugins=None if options.plugins is None else str(options.plugins.resolve()),
        # A stripped plan has no weights to load with, and a foreign one no GPU.
        report=gpu is not None and gpu.arch in wanted.key.archs and not options.strip_weights,
    )
    built = run_build(request, progress)
    with plan.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return EngineMetadata(
        name=wanted.engine.name,
        key=wanted.key,
        plan=FileSpec(sha256=digest, size=built["size"]),
        dispatch=built["dispatch"],
        driver=None if gpu is None else gpu.driver,
        device=None if gpu is None else gpu.name,
        seconds=round(time.monotonic() - began, 3),
        layers=built["layers"],
    )


def _place(plan: Path, record: EngineMetadata, folder: Path) -> Path:
    """Copy an engine and its record to their place.

    Both are written before either gets its name, and the record gets it first: a killed process
    leaves no plan without a record. Between the two names, a plan that is replaced does not fit its
    record, which readers see by its checksum.
    """
    target = folder / f"{record.name}.plan"
    with plan.open("rb") as source, open_output(target) as sink:
        shutil.copyfileobj(source, sink)
        sink.flush()  # a full disk is noticed before the record has its name
        write_file(target.with_suffix(".json"), record.to_json().encode())
    return target
