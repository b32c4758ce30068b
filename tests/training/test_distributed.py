# SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one learns with the doubled batch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.samples.paths import ROOT
from tests.samples.training import NARROW, write_dataset
from tests.samples.training_process import STEPS, losses

from foveate.training.distributed import World


@pytest.mark.slow
def test_two_processes_learn_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = str(ROOT / "tests" / "samples" / "training_process.py")
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


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_goes_on_after_an_interruption(
    tmp_path: Path,
) -> None:
    dataset = write_dataset(tmp_path / "data")
    shutil.move(write_dataset(tmp_path / "other", images=2) / "train", dataset / "validation")
    sizes = [word for name, size in NARROW.items() for word in ("--size", f"{name}={size}")]
    words = ["train", "--network", "deepmask-resnet50", *sizes, "--dataset", str(dataset)]
    words += ["--steps", "24", "--batch", "4", "--workers", "0", "--device", "cpu"]
    words += ["--checkpoint-every", "3", "--validate-every", "12"]

    def start(output: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", "-m", "foveate", *words, "--output", str(output)]
        return subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    broken = start(tmp_path / "two")
    state = tmp_path / "two" / "deepmask-resnet50.training"
    while not state.exists() and broken.poll() is None:
        time.sleep(0.05)
    broken.terminate()
    broken.communicate(timeout=300)
    done = torch.load(state, weights_only=True)["step"]
    assert done < 24
    again = start(tmp_path / "two")
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    # One of the two speaks, and begins behind what was done.
    assert said.count("Checkpoint: ") == 1
    assert f"deepmask-resnet50: {done + 1} of 24" in said
    assert "Best: " in said
    whole = start(tmp_path / "whole")
    whole.communicate(timeout=300)
    resumed, unbroken = (
        safetensors.torch.load_file(tmp_path / run / "deepmask.safetensors")
        for run in ("two", "whole")
    )
    assert resumed.keys() == unbroken.keys()
    assert all(torch.equal(resumed[name], unbroken[name]) for name in resumed)
