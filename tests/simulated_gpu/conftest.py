# SPDX-License-Identifier: Apache-2.0
"""The simulated driver as a fixture; other folders write ``with connected(Simulation(...))``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.samples.plans import write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.bundle import Bundle


@pytest.fixture(scope="session", autouse=True)
def _cache(pytestconfig: pytest.Config) -> Iterator[None]:
    """Kernels that were compiled for a former run of the tests are taken again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(pytestconfig.rootpath / ".pytest_cache" / "foveate"))
        yield


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with plans for images of 96 x 64."""
    bundle = small_bundle(tmp_path_factory.mktemp("compiled") / "small")
    write_plans(bundle, image_sizes=((96, 64),))
    return bundle


@pytest.fixture
def simulated() -> Iterator[Simulation]:
    """A GPU on which work runs in a random order; outside of the test there is none."""
    with connected(Simulation(seed=0)) as simulation:
        yield simulation
