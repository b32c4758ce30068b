# SPDX-License-Identifier: Apache-2.0
"""Compilation of the stages of a bundle to engines, which are taken from the cache if possible."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from foveate.bundle import Bundle
from foveate.bundle.engine_key import EngineKey
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.manifest import FileSpec
from foveate.errors import BackendError, OptionError
from foveate.export.engines.cache import EngineCache
from foveate.export.engines.options import CompileOptions
from foveate.export.engines.process import BuildJob, run_build
from foveate.export.engines.shapes import EngineSpec, engine_specs
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import (
    check_library,
    library_path,
    obtain_library,
    store_library,
)
from foveate.progress import Progress, no_progress
from foveate.system.files import open_output, write_file
from foveate.system.gpu import Gpu, current_gpu
from foveate.system.regular_files import file_digest
from foveate.system.tensorrt import TARGETS, Target, check_driver, find_installed, import_library

RECIPE = 2
"""Version of the build, raised when the same key would lead to another engine; it is part of the key."""
DEFAULT_ARCHS = ("sm_80", "sm_86", "sm_89", "sm_120")
"""Compute capabilities to build for if there is no GPU, as TensorRT for RTX chooses by itself."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A request for an engine of a bundle.

    Args:
        name: Name of the engine; see ``EngineSpec``.
        key: Key of the engine.
        onnx: ONNX file of the stage.
        plugins: Plugin library that the engine needs, if any; in the user's cache it may be missing.
    """

    name: str
    key: EngineKey
    onnx: Path
    plugins: Path | None


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """An engine, and the reason why it had to be built, or None if it came from the cache."""

    plan: Path
    record: EngineMetadata
    why: str | None


def build_requests(bundle: Bundle, options: CompileOptions) -> list[BuildRequest]:
    """Return a request for each engine of a bundle, after checking the files of its stages.

    Raises:
        FoveateError: The target is not installed, has no GPU to build for, is for a later CUDA than
            the driver, or lacks an operation that a stage needs there; or a file is invalid.
    """
    # They need ONNX, which the cache of engines does not.
    from foveate.export.engines.turing import TURING, check_products  # noqa: PLC0415 - see above
    from foveate.export.execution.stage_model import custom_ops, load_stage  # noqa: PLC0415 - see above

    installed, gpu = find_installed(options.target), current_gpu()
    archs, sources = _archs(options, gpu), source_digest()
    if gpu is not None and gpu.arch in archs:
        check_driver(installed)  # a build for this machine ends with loading the engine
    if options.plugins is not None:
        check_library(options.plugins, sources)
    library = options.plugins or library_path(sources, archs[0])
    engines, files = engine_specs(bundle.manifest, options), bundle.manifest.files
    with_plugins = set()
    for stage in {engine.stage for engine in engines}:
        model = load_stage(bundle, stage)
        if installed.target.cross and TURING in archs:
            check_products(model, stage, bundle.stage_path(stage))
        if installed.target.plugins and not options.no_plugins and custom_ops(model):
            with_plugins.add(stage)

    def request(engine: EngineSpec) -> BuildRequest:
        plugins = engine.stage in with_plugins
        key = EngineKey(
            target=options.target,
            stage=engine.stage,
            onnx=files[bundle.manifest.stages[engine.stage].file].sha256,
            plugins=sources if plugins else None,
            tensorrt=installed.version,
            cuda=installed.cuda,
            archs=archs,
            options={**options.builder_options(), "recipe": RECIPE},
            profiles=engine.profiles,
        )
        return BuildRequest(
            name=engine.name,
            key=key,
            onnx=bundle.stage_path(engine.stage),
            plugins=library if plugins else None,
        )

    return [request(engine) for engine in engines]


def compile_bundle(
    bundle: Bundle,
    options: CompileOptions,
    cache: EngineCache,
    *,
    output: Path | None = None,
    progress: Progress = no_progress,
    waiting: Callable[[str], None] = lambda _: None,
) -> Iterator[BuildResult]:
    """Build the engines of a bundle one after the other, or take them from the cache.

    Args:
        bundle: Bundle to compile.
        options: Options of the compilation.
        cache: Cache of engines.
        output: Directory of the engines; ``engines/<target>`` of the bundle by default.
        progress: Called with the name of an engine and the percentage that is done.
        waiting: Called with the name of an engine that another process is building.

    Yields:
        Each engine, when it is in its directory.

    Raises:
        FoveateError: An engine cannot be built or written. The engines before it stay.
    """
    folder = output or bundle.root / "engines" / options.target
    requests = build_requests(bundle, options)
    # The runtime needs the library too, even for an engine that comes from the cache.
    archs = {request.key.archs for request in requests if request.plugins is not None}
    for (arch,) in archs:
        if options.plugins is None:
            obtain_library(arch)
        else:
            store_library(options.plugins, arch)
    for request in requests:
        name = request.name
        build = partial(_build, request, options, progress)
        with cache.obtain(request.key, build, partial(waiting, name)) as cached:
            plan, record, why = cached
            # Another bundle with the same file may have built it under another name.
            named = replace(record, name=name)
            result = BuildResult(plan=_place(plan, named, folder), record=named, why=why)
        yield result


def _check_archs(target: Target, archs: Sequence[str]) -> None:
    """Check that a target builds for these compute capabilities of other machines."""
    names = import_library(target).ComputeCapability.__members__
    known = [f"sm_{name[2:]}" for name in names if name.startswith("SM")]
    for arch in archs:
        if arch not in known:
            what = f"{target.name} cannot build for {arch}, expected one of {', '.join(known)}"
            raise OptionError(what, remedy="on such a GPU itself: --target tensorrt")


def _archs(options: CompileOptions, gpu: Gpu | None) -> tuple[str, ...]:
    """Return the compute capabilities to build for."""
    if TARGETS[options.target].cross:
        chosen = options.archs or ((gpu.arch,) if gpu is not None else DEFAULT_ARCHS)
        _check_archs(TARGETS[options.target], chosen)
        # Sorted, so that the order on the command line does not change the key.
        return tuple(sorted(set(chosen), key=lambda arch: int(arch[3:])))
    if gpu is None:
        raise BackendError(
            f"{options.target} builds for the GPU of this machine, but no driver works here",
            remedy="run it on a machine with that GPU, or use --target tensorrt-rtx, which needs none",
        )
    if options.archs and options.archs != (gpu.arch,):
        raise BackendError(
            f"{options.target} builds for the GPU of this machine, {gpu.arch} ({gpu.name}), found "
            f"--arch {options.archs[0]}",
            remedy="run it on a machine with that GPU, or omit --arch",
        )
    return (gpu.arch,)


def _build(
    request: BuildRequest, options: CompileOptions, progress: Progress, plan: Path
) -> EngineMetadata:
    gpu, began = current_gpu(), time.monotonic()
    job = BuildJob(
        name=request.name,
        key=request.key,
        onnx=str(request.onnx),
        plan=str(plan),
        timing_cache=None if options.timing_cache is None else str(options.timing_cache),
        plugins=None if request.plugins is None else str(request.plugins.resolve()),
        # A stripped plan cannot be loaded without its weights, nor one for another GPU.
        report=gpu is not None and gpu.arch in request.key.archs and not options.strip_weights,
    )
    built = run_build(job, progress)
    return EngineMetadata(
        name=request.name,
        key=request.key,
        plan=FileSpec(sha256=file_digest(plan), size=built["size"]),
        dispatch=built["dispatch"],
        driver=None if gpu is None else gpu.driver,
        device=None if gpu is None else gpu.name,
        seconds=round(time.monotonic() - began, 3),
        layers=built["layers"],
    )


def _place(plan: Path, record: EngineMetadata, folder: Path) -> Path:
    """Copy an engine and its record to their directory."""
    # Both are written before either gets its name, and the record gets it first: a killed process
    # leaves no plan without a record. Between the two renames, a plan that is replaced does not match
    # its record, which readers detect by its checksum.
    target = folder / f"{record.name}.plan"
    with plan.open("rb") as source, open_output(target) as sink:
        shutil.copyfileobj(source, sink)
        sink.flush()  # a full disk is noticed before the record has its name
        write_file(target.with_suffix(".json"), record.to_json().encode())
    return target


def trtexec_command(request: BuildRequest, plan: Path, options: CompileOptions) -> str:
    """Return the command of NVIDIA's own tool that builds the same engine, as one shell line."""
    target = TARGETS[options.target]
    words = [target.trtexec, f"--onnx={request.onnx}", f"--saveEngine={plan}", "--skipInference"]
    for number, profile in enumerate(request.key.profiles):
        if len(request.key.profiles) > 1:
            words.append(f"--profile={number}")
        for kind in ("minimum", "optimum", "maximum"):
            sides = {name: map(str, getattr(one, kind)) for name, one in profile.items()}
            shapes = ",".join(f"{name}:{'x'.join(one)}" for name, one in sides.items())
            words.append(f"--{kind[:3]}Shapes={shapes}")
    if target.cross:
        words.append("--computeCapabilities=" + ",".join(arch[3:] for arch in request.key.archs))
    if options.optimization_level != 3:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.workspace_mb is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mb}")
    level = {"ampere+": "ampere+", "same-compute-capability": "sameComputeCapability"}
    if options.hardware_compatibility in level:
        words.append(f"--hardwareCompatibilityLevel={level[options.hardware_compatibility]}")
    flags = {
        "--versionCompatible": options.version_compatible,
        "--stripWeights": options.strip_weights,
        "--refit": options.refit,
        "--noTF32": not options.tf32,
        # TensorRT 11 and TensorRT for RTX are always strongly typed; TensorRT 10 needs the flag.
        "--stronglyTyped": not target.cross,
    }
    words += [flag for flag, given in flags.items() if given]
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if request.plugins is not None:
        words.append(f"--dynamicPlugins={request.plugins}")
    return shlex.join([*words, "--profilingVerbosity=detailed"])
