# SPDX-License-Identifier: Apache-2.0
"""``foveate doctor --gpu-selftest`` as users call it, in which all steps meet a simulated driver."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from foveate.cli import invoke
from foveate.kernels.compilers import find_nvrtc

pytest.importorskip("cuda.core", reason="needs the package cuda-core")
IN_CHILDREN = Path(__file__).with_name("in_children")


@pytest.fixture(autouse=True)
def _simulated_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        find_nvrtc()
    except (ImportError, RuntimeError):
        pytest.skip("needs the package nvidia-cuda-nvrtc")
    paths = [str(IN_CHILDREN), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_the_self_test_of_a_simulated_gpu_fails_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.json"
    status = invoke(["doctor", "--gpu-selftest", "--output", str(output)])
    lines = capfd.readouterr().out
    report = json.loads(output.read_text())
    assert status == 0, lines
    assert report["schema"] == 1
    steps = {step["name"]: step for step in report["steps"]}
    for name in ("driver", "kernels", "operations", "captures", "times"):
        assert steps[name]["status"] == "passed", steps[name]
        assert all(check["status"] == "passed" for check in steps[name]["checks"])
    facts = {
        key: value for check in steps["driver"]["checks"] for key, value in check["facts"].items()
    }
    assert facts["architecture"] == "sm_75"  # of the PTX; the GPU's is unknown to the compiler
    assert {check["facts"]["form"] for check in steps["kernels"]["checks"]} == {"ptx"}
    assert lines.endswith(f"The report is {output}; attach it to a bug report.\n")
    assert str(tmp_path) not in output.read_text()


def test_doctor_runs_a_kernel_on_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    from foveate.cli import doctor

    finding: Any = doctor.PROBES["cuda"]()
    assert finding.works, finding.detail
    assert finding.detail.startswith("ran a kernel that NVRTC ")
