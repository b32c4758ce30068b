# SPDX-License-Identifier: Apache-2.0
"""The command of NVIDIA's own tool that builds the same engine."""

from __future__ import annotations

import shlex
from pathlib import Path

from foveate.bundle.engine_key import ShapeRange
from foveate.export.engines.options import CompileOptions
from foveate.export.engines.ranges import EnginePlan
from foveate.export.engines.targets import TARGETS


def trtexec_command(
    engine: EnginePlan, onnx: Path, plan: Path, options: CompileOptions, archs: tuple[str, ...]
) -> str:
    """Return one line for a shell.

    Args:
        engine: what is built.
        onnx: file of its stage.
        plan: where the engine goes.
        options: what was asked for.
        archs: compute capabilities; used where the target can build for GPUs that are not here.
    """
    target = TARGETS[options.target]
    words = [target.trtexec, f"--onnx={onnx}", f"--saveEngine={plan}", "--skipInference"]
    for number, profile in enumerate(engine.profiles):
        if len(engine.profiles) > 1:
            words.append(f"--profile={number}")
        for kind in ("minimum", "optimum", "maximum"):
            words.append(f"--{kind[:3]}Shapes=" + ",".join(_shapes(profile, kind)))
    if target.cross:
        words.append("--computeCapabilities=" + ",".join(arch[3:] for arch in archs))
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
        # Strong typing is the only way of 11 and of RTX; 10 has to be told.
        "--stronglyTyped": not target.cross,
    }
    words += [flag for flag, given in flags.items() if given]
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.plugins is not None:
        words.append(f"--dynamicPlugins={options.plugins}")
    return shlex.join([*words, "--profilingVerbosity=detailed"])


def _shapes(profile: dict[str, ShapeRange], kind: str) -> list[str]:
    return [f"{name}:{'x'.join(map(str, getattr(one, kind)))}" for name, one in profile.items()]
