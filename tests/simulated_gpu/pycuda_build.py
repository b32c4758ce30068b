# SPDX-License-Identifier: Apache-2.0
"""Build PyCUDA from its sources and install it, where the headers of a CUDA toolkit are.

PyCUDA has no wheels. It needs no driver to be built: an empty library stands for it. The wheel is
kept in the user's cache. Its code is not optimized, because compilation is what takes time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foveate-pycuda"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
(VERSION,) = re.findall(r"^pycuda==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)

# Runs the sources' setup.py with two compilers at a time.
SETUP = """
import runpy, sys
from concurrent.futures import ThreadPoolExecutor
import setuptools
from distutils.ccompiler import CCompiler

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=False,
            extra_preargs=None, extra_postargs=None, depends=None):
    macros, objects, after, options, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    before = self._get_cc_args(options, debug, extra_preargs)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda made: self._compile(made, *build[made], before, after, options), objects))
    return objects

CCompiler.compile = compile
sys.path.insert(0, ".")
sys.argv = ["setup.py", "--quiet", "bdist_wheel", "--dist-dir", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


def toolkit() -> Path | None:
    """Return the folder of a CUDA toolkit with the headers that PyCUDA includes."""
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    if nvcc := shutil.which("nvcc"):
        homes.append(str(Path(nvcc).resolve().parents[1]))
    headers = ("cuda.h", "cudaProfiler.h")
    for home in filter(None, homes):
        if all((Path(home) / "include" / header).is_file() for header in headers):
            return Path(home)
    return None


def build(cuda: Path, target: Path) -> None:
    """Build a wheel into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        sources, driver = Path(folder) / f"pycuda-{VERSION}", Path(folder) / "libcuda.so"
        command = [*PIP, "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, f"pycuda=={VERSION}"], check=True)
        shutil.unpack_archive(f"{sources}.tar.gz", folder, filter="data")
        command = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", os.devnull]
        subprocess.run([*command, "-o", str(driver)], check=True)
        options = [f"--cuda-root={cuda}", "--no-cuda-enable-curand", "--cxxflags=-O0,-g0,-w"]
        command = [sys.executable, "configure.py", *options, f"--cudadrv-lib-dir={folder}"]
        path = os.environ | {"PYTHONPATH": str(sources)}
        subprocess.run(command, cwd=sources, env=path, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(
            [sys.executable, "-c", SETUP, str(target)],
            cwd=sources,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def install(cuda: Path) -> None:
    """Install the wheel of the cache, which is built first if it is not there."""
    target = CACHE / f"{sys.implementation.cache_tag}-numpy{version('numpy')}"
    if not list(target.glob(f"pycuda-{VERSION}-*.whl")):
        sys.stdout.write("Building PyCUDA (a minute)\n")
        sys.stdout.flush()
        build(cuda, target)
    (wheel,) = target.glob(f"pycuda-{VERSION}-*.whl")
    subprocess.run([*PIP, "install", "-c", str(CONSTRAINTS), str(wheel)], check=True)


def main() -> None:
    """Install PyCUDA; where it cannot be built, its tests are skipped."""
    cuda = toolkit()
    if find_spec("pycuda"):
        return
    if cuda is None:
        sys.stdout.write("PyCUDA is left out: there are no headers of a CUDA toolkit\n")
        return
    try:
        install(cuda)
    except subprocess.CalledProcessError as error:
        sys.stdout.write(f"PyCUDA is left out: it cannot be built: {error}\n")


if __name__ == "__main__":
    main()
