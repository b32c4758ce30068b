# SPDX-License-Identifier: Apache-2.0
"""The option that rewrites the budgets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.budgets.budget import Budgets


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-budgets", action="store_true", help="counts become the budgets")


@pytest.fixture
def budgets(pytestconfig: pytest.Config) -> Budgets:
    # The option exists only where this folder is named on the command line.
    return Budgets(rewrite=pytestconfig.getoption("--rewrite-budgets", default=False))


@pytest.fixture(scope="session", autouse=True)
def _cache(pytestconfig: pytest.Config) -> Iterator[None]:
    """Kernels that were compiled for a former run of the tests are taken again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(pytestconfig.rootpath / ".pytest_cache" / "foveate"))
        yield
