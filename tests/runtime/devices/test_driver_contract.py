# SPDX-License-Identifier: Apache-2.0
"""The functions of the driver that our devices call, in the real ``cuda.bindings``."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

import pytest
from tests.samples.paths import PACKAGE

CALLS = {"call": 0, "take": 0, "own": 1}  # methods of the context, and where the function's name is


def calls() -> Iterator[tuple[str, int | None]]:
    """Return each function with the number of its arguments, or None if the call unpacks some."""
    for file in sorted((PACKAGE / "runtime" / "devices").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            place = CALLS.get(node.func.attr)
            if place is None or len(node.args) <= place:
                continue
            name = node.args[place]
            if isinstance(name, ast.Constant) and str(name.value).startswith("cu"):
                starred = any(isinstance(one, ast.Starred) for one in node.args)
                yield str(name.value), None if starred else len(node.args) - 1


def parameters(function: object) -> int:
    """Return the number of parameters in the first line of a docstring."""
    signature = str(function.__doc__).splitlines()[0]
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    depth, count = 0, int(bool(inside.strip()))
    for letter in inside:
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(letter, 0)
        count += letter == "," and depth == 0
    return count


@pytest.mark.parametrize(("name", "count"), sorted(set(calls()), key=str))
def test_the_real_package_has_what_we_call(name: str, count: int | None) -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs the package cuda-bindings")
    function = getattr(driver, name)
    if count is not None:
        assert parameters(function) == count


def test_the_calls_are_found() -> None:
    names = {name for name, _ in calls()}
    assert {"cuGraphLaunch", "cuMemAllocAsync", "cuMemFreeAsync", "cuLaunchKernel"} <= names


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("cuda.core", ["Device.set_current", "Device.arch", "Device.context", "Context.handle"]),
        (
            "cuda.bindings.driver",
            [
                "CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
                "CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE",
                "CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL",
            ],
        ),
    ],
)
def test_the_real_packages_have_the_attributes_that_we_read(module: str, names: list[str]) -> None:
    pytest.importorskip(module, reason=f"needs the package of {module}")
    for name in names:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
