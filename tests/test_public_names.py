# SPDX-License-Identifier: Apache-2.0
"""What programs may import is written down, so that no name comes or goes unnoticed."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

import foveate
from foveate.errors import MissingExtraError

LISTED = Path(__file__).with_name("public_names.txt").read_text(encoding="utf-8").split()


def names_by_module() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        found[module].add(attribute)
    return dict(found)


def import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", LISTED)
def test_a_public_name_can_be_imported(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(module), attribute)


@pytest.mark.parametrize(("module", "names"), names_by_module().items())
def test_a_module_declares_what_is_listed(module: str, names: set[str]) -> None:
    assert set(import_module(module).__all__) == names


def test_every_package_with_public_names_is_listed() -> None:
    packages = [
        module.name
        for module in pkgutil.walk_packages(foveate.__path__, "foveate.", onerror=lambda _: None)
        # Operations are reached through the modules `host` and `reference` of their directory.
        if module.ispkg and not module.name.startswith("foveate.kernels.")
    ]
    declared = {name for name in packages if hasattr(import_module(name), "__all__")}
    assert declared <= names_by_module().keys()


def test_the_list_is_sorted_and_has_no_name_twice() -> None:
    assert sorted(set(LISTED)) == LISTED
