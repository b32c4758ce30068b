# SPDX-License-Identifier: Apache-2.0
"""A server that is used for ten minutes takes no more memory and no more descriptors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.samples.paths import ROOT

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

MINUTES = 10
# Images of up to 3 megapixels take 1,000 MB while there is work, with 16 descriptors and 12 threads.
MOST_MEGABYTES, MOST_DESCRIPTORS, MOST_THREADS = 1500, 40, 40


@pytest.mark.slow
def test_a_server_does_not_grow_in_ten_minutes(tmp_path: Path) -> None:
    script, file = ROOT / "benchmarks" / "soak.py", tmp_path / "soak.json"
    command = [sys.executable, str(script), "--minutes", str(MINUTES), "--json", str(file)]
    limit = 60 * (MINUTES + 10)  # a warm-up comes first
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    assert done.returncode == 0, done.stdout + done.stderr
    (measurement,) = json.loads(file.read_text("utf-8"))["measurements"]
    for _, _, *cells in measurement["rows"]:
        memory, descriptors, threads = (cell["value"] for cell in cells)
        assert memory < MOST_MEGABYTES
        assert descriptors < MOST_DESCRIPTORS
        assert threads < MOST_THREADS
