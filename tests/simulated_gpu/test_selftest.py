# SPDX-License-Identifier: Apache-2.0
"""``foveate doctor --gpu-selftest`` as users call it, in which all steps meet a simulated driver."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.samples.plans import write_plans
from tests.samples.verified_bundles import small_bundle

from foveate.cli import invoke
from foveate.kernels.compilers import find_nvrtc
from foveate.selftest.images import sample_image
from foveate.selftest.plan import STEPS
from foveate.selftest.supervision import run_step

pytest.importorskip("cuda.core", reason="needs the package cuda-core")
IN_CHILDREN = Path(__file__).with_name("in_children")


@pytest.fixture(autouse=True)
def _simulated_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        find_nvrtc()
    except (ImportError, RuntimeError):
        pytest.skip("needs the packages cuda-bindings and nvidia-cuda-nvrtc")
    paths = [str(IN_CHILDREN), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with plans for the sample image and the simulated GPU."""
    bundle = small_bundle(tmp_path_factory.mktemp("compiled") / "small")
    height, width = sample_image().shape[:2]
    write_plans(bundle, image_sizes=((width, height),), archs=("sm_76",))
    return bundle.root


def test_the_self_test_of_a_simulated_gpu_fails_nothing(
    compiled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.json"
    command = ["doctor", "--gpu-selftest", "--bundle", str(compiled), "--output", str(output)]
    status = invoke(command)
    lines = capfd.readouterr().out
    text = output.read_text()
    assert status == 0, lines
    assert lines.endswith(f"The report is {output}; attach it to a bug report.\n")
    assert str(tmp_path) not in text
    assert str(compiled) not in text
    steps = {step["name"]: step for step in json.loads(text)["steps"]}
    assert set(steps) == set(STEPS)
    checks = {
        (name, check["name"]): check for name, step in steps.items() for check in step["checks"]
    }
    untried = {key for key, check in checks.items() if check["status"] == "not tried"}
    assert {name for name, _ in untried} <= {"engines", "sanitizer"}
    assert not any(check.startswith("tensorrt,") for _, check in untried)
    for stage in ("propose", "refine", "features", "classify"):
        assert checks["engines", f"tensorrt, {stage}"]["facts"]["recorded"]
    assert checks["image", "plain and as a graph"]["facts"]["recorded"]
    assert checks["driver", "driver"]["facts"]["architecture"] == "sm_76"
    assert checks["kernels", "nms/nms.cuh"]["facts"]["form"] == "ptx"


def test_doctor_runs_a_kernel_on_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    from foveate.cli import doctor

    assert doctor.PROBES["cuda-core"]().startswith("ran a kernel that NVRTC ")


def test_an_abort_is_a_failed_check_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = (IN_CHILDREN / "sitecustomize.py").as_posix()
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, runpy\nrunpy.run_path({start!r})\n"
        "from foveate.selftest.cases import CASES\n"
        "CASES['nms'] = lambda *_: os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    result = run_step("operations", "mini")
    assert result.status == "failed"
    passed, failed = result.checks[:-1], result.checks[-1]
    assert {check.name for check in passed} >= {"letterbox, size 1", "letterbox, size 2"}
    assert {check.status for check in passed} == {"passed"}
    assert failed.name == "nms, size 1"
    assert failed.reason == "the process was ended by SIGABRT"
