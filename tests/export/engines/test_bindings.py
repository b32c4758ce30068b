# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT in the worker exists in the real bindings of both targets."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from tests.samples.compiling import needs_rtx

from foveate.export.engines import worker

# What the worker's variables hold, by the name of the class in the bindings.
CLASSES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "registry": "IPluginRegistry",
    "profile": "IOptimizationProfile",
    "inspector": "EngineInspector",
    "engine": "ICudaEngine",
}
BEHIND_A_CALL = {
    # Attributes of what a call returns, which no variable names.
    "Runtime": ["deserialize_cuda_engine"],
    "ITimingCache": ["serialize"],
    "ParserError": ["desc", "node_name", "node_operator"],
    "IPluginCreatorV3One": ["name", "plugin_version", "plugin_namespace"],
    "IProgressMonitor": ["phase_start", "phase_finish", "step_complete"],
    "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
    "BuilderFlag": ["REFIT", "STRIP_PLAN", "TF32", "VERSION_COMPATIBLE"],
}


def names_read() -> Iterator[str]:
    """Yield the names of the bindings in the source: ``trt.X.Y``, and attributes of variables."""
    source = Path(str(worker.__file__)).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node).removeprefix("self.")
            head, _, rest = name.partition(".")
            if head == "trt" and "(" not in name:
                yield rest
            elif head in CLASSES and rest.isidentifier():
                yield f"{CLASSES[head]}.{rest}"
    yield from (f"{head}.{name}" for head, names in BEHIND_A_CALL.items() for name in names)


# Read only of a target that builds for GPUs that are not here.
ACROSS_GPUS = {
    "ComputeCapability",
    "ComputeCapability.__members__",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}
LOOK_UP = """
def has(name):
    here = module
    for part in name.split("."):
        if not hasattr(here, part): return False
        here = getattr(here, part)
    return True
print("looked", *[name for name in sys.argv[2:] if not has(name)])
"""
FROM_FILE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tensorrt", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


def missing(load: str, file: Path, libraries: Path | None = None) -> list[str]:
    """Load bindings in a process of their own, and look at their classes only.

    Without a driver, making a Runtime ends the process.
    """
    wanted = sorted(set(names_read()))
    assert {"Builder.create_network", "MemoryPoolType.WORKSPACE"} < set(wanted)
    assert {"IBuilderConfig.set_timing_cache", "EngineInspector.get_engine_information"} < set(
        wanted
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", load + LOOK_UP, str(file), *wanted],
        capture_output=True,
        text=True,
        check=True,
        env={"LD_LIBRARY_PATH": str(libraries or "")},
    )
    looked, *lacking = done.stdout.split()
    assert looked == "looked"
    return lacking


def file_of(wheel: str, name: str) -> Path:
    """Return a file of an installed wheel."""
    try:
        files = metadata.files(wheel) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"the bindings ({wheel}) are missing")
    (file,) = [one for one in files if one.name == name]
    return Path(str(file.locate()))


def needs(file: Path) -> tuple[list[str], list[str]]:
    """Return the TensorRT libraries that the bindings are linked with, and their functions."""

    def first_line(*command: str) -> list[list[str]]:
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    libraries = [
        words[-1].strip("[]") for words in first_line("readelf", "-d") if "(NEEDED)" in words
    ]
    symbols = [words[-1] for words in first_line("nm", "-D", "--undefined-only")]
    return (
        [one for one in libraries if one.startswith("libnv")],
        [one for one in symbols if re.fullmatch("(create|get|init)[A-Z].*", one)],
    )


def test_every_name_exists_in_the_bindings_of_tensorrt(tmp_path: Path) -> None:
    """The bindings are linked with empty libraries, since the real ones take gigabytes."""
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    file = file_of("tensorrt-cu13-bindings", "tensorrt.so")
    libraries, functions = needs(file)
    assert len(libraries) == 3
    source = tmp_path / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for name in libraries:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, str(source)]
        subprocess.run(command, check=True, cwd=tmp_path)
    assert set(missing(FROM_FILE, file, tmp_path)) == ACROSS_GPUS


@needs_rtx
def test_every_name_exists_in_the_bindings_of_tensorrt_for_rtx() -> None:
    assert missing("import sys, tensorrt_rtx as module\n", Path()) == []
