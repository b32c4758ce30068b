# SPDX-License-Identifier: Apache-2.0
"""An environment of its own for the examples that need Ray, which takes 500 MB."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.packages import install
from tests.samples.ray_cluster import RayCluster


@pytest.fixture(scope="session")
def ray_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with Ray, which shares the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = folder / "bin" / "python"
    install("ray[data,serve]==2.60.*", python=python)
    return python


@pytest.fixture
def ray_cluster(ray_python: Path) -> Iterator[RayCluster]:
    """Runs examples with Ray, and ends what they leave."""
    # Not in the directory of the test: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(ray_python, folder)
    try:
        yield cluster
    finally:
        cluster.kill()
        shutil.rmtree(folder, ignore_errors=True)
