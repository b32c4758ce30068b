# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from foveate.errors import BackendError, OptionError
from foveate.kernels.build import FOLDER
from foveate.kernels.status import STATUSES, check_status


@pytest.mark.parametrize("status", STATUSES)
def test_refused_arguments_become_an_error_with_a_remedy(status: int) -> None:
    with pytest.raises(OptionError, match=f"nms: .*status {status}") as raised:
        check_status(status, "nms")
    assert raised.value.remedy


def test_statuses_are_those_of_the_launchers() -> None:
    text = (FOLDER / "device" / "launch.cuh").read_text(encoding="utf-8")
    codes = {int(line.split("=")[1].split(",")[0]) for line in text.splitlines() if "= -" in line}
    assert codes == STATUSES.keys()


def test_success_is_no_error_and_an_error_of_cuda_is_one() -> None:
    check_status(0, "nms")
    with pytest.raises(BackendError, match="nms: CUDA refused the launch with error 700"):
        check_status(700, "nms")


def test_kernels_are_listed_without_importing_a_framework() -> None:
    program = "import sys, foveate.kernels.launches; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, check=False)
    assert done.returncode == 0
