# SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one learns with the doubled batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.unit.training_process import STEPS, losses

from foveate.training.distributed import World

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = str(ROOT / "tests" / "unit" / "training_process.py")
    run = subprocess.run(
        [*command, "--nproc-per-node", "2", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    one, other = (torch.load(tmp_path / rank, weights_only=True) for rank in ("0", "1"))
    assert one["size"] == 2
    assert one["losses"] == other["losses"]
    alone, network = losses(World(device=torch.device("cpu")))
    assert {name for step in alone for name in step} == {"mask", "score"}
    assert len(alone) == STEPS
    for together, single in zip(one["losses"], alone, strict=True):
        assert together == pytest.approx(single, abs=1e-5)
    for name, weights in network.state_dict().items():
        assert torch.allclose(one["network"][name], weights, rtol=1e-4, atol=1e-5), name
        assert torch.equal(one["network"][name], other["network"][name]), name
