# SPDX-License-Identifier: Apache-2.0
"""The real classes of TensorRT's Python bindings, without the libraries that they need.

The libraries take gigabytes, and without a driver a Runtime ends the process. So the bindings are
linked with empty libraries, and only their classes are looked at, in a process of their own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

WHEELS = {
    "tensorrt": "tensorrt-cu13-bindings",
    "tensorrt_lean": "tensorrt-lean-cu13-bindings",
    "tensorrt_rtx": "tensorrt-rtx-cu13-bindings",
}
DOCUMENTATION = """
import importlib.util, json, sys
name, file, *wanted = sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
def text(path):
    here = module
    for part in path.split("."):
        if not hasattr(here, part): return None
        here = getattr(here, part)
    return str(here.__doc__)
print(json.dumps({path: text(path) for path in wanted}))
"""


def documentation(module: str, names: set[str], scratch: Path) -> dict[str, str | None]:
    """Return the docstring of each name of a module, None for names that it lacks.

    Args:
        module: Name of the module.
        names: Names such as ``Builder.create_network``.
        scratch: Folder for the empty libraries.
    """
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    file = _find(WHEELS[module], f"{module}.so")
    libraries, functions = _needs(file)
    assert libraries
    source = scratch / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for name in libraries:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, str(source)]
        subprocess.run(command, check=True, cwd=scratch)
    done = subprocess.run(
        [sys.executable, "-P", "-c", DOCUMENTATION, module, str(file), *names],
        capture_output=True,
        text=True,
        check=True,
        env={"LD_LIBRARY_PATH": str(scratch)},
    )
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def _find(wheel: str, name: str) -> Path:
    try:
        files = metadata.files(wheel) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"the bindings ({wheel}) are missing")
    (file,) = [one for one in files if one.name == name]
    return Path(str(file.locate()))


def _needs(file: Path) -> tuple[list[str], list[str]]:
    """Return the libraries of TensorRT that bindings are linked with, and their functions."""

    def words(*command: str) -> list[list[str]]:
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    libraries = [line[-1].strip("[]") for line in words("readelf", "-d") if "(NEEDED)" in line]
    symbols = [line[-1] for line in words("nm", "-D", "--undefined-only")]
    return (
        [one for one in libraries if one.startswith(("libnv", "libtensorrt"))],
        [one for one in symbols if re.fullmatch("(create|get|init)[A-Z].*", one)],
    )
