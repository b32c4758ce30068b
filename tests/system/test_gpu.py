# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError
from foveate.system import gpu
from foveate.system.gpu import check_bindings, current_gpu, driver_version


def test_the_driver_is_asked_for_its_version_and_its_gpu() -> None:
    with connected(Simulation("sm_90")):
        found = current_gpu()
        assert found is not None
        assert found.arch == "sm_90"
        version = driver_version()
        assert version is not None
        assert found.driver == ".".join(map(str, version))


@pytest.mark.parametrize("driver", [None, (13, 0), (14, 1)])
def test_bindings_for_the_driver_or_an_earlier_one_are_accepted(
    monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(gpu, "driver_version", lambda: driver)
    check_bindings("13.5.0")
    check_bindings("12.9.4")


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        ((12, 8), r"run: pip install 'foveate\[cuda12\]', or update the driver to one of CUDA 13"),
        ((11, 4), "update the driver to one of CUDA 13"),
    ],
)
def test_bindings_for_a_later_driver_are_named_with_both_versions(
    monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int], remedy: str
) -> None:
    monkeypatch.setattr(gpu, "driver_version", lambda: driver)
    found = f"cuda-bindings 13.5.0 needs a driver of CUDA 13, found one of CUDA {driver[0]}"
    with pytest.raises(BackendError, match=rf"^{found}.{driver[1]}: {remedy}$"):
        check_bindings("13.5.0")
