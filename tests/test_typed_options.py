# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import foveate
from foveate.bench.ratios import CompareOptions
from foveate.errors import OptionError
from foveate.runtime.options import PipelineOptions
from foveate.training.loop import LoopOptions
from foveate.typed_options import TypedOptions


@dataclass(frozen=True, kw_only=True)
class Sample(TypedOptions):
    whole: int = 1
    real: float | None = None
    flag: bool = False
    name: str = ""
    choice: Literal["a", "b"] = "a"
    pair: tuple[int, float] = (1, 1.0)
    many: tuple[float, ...] = ()
    file: Path | None = None
    either: int | Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("whole", True, "int"),
        ("whole", 2.5, "int"),
        ("whole", "3", "int"),
        ("whole", None, "int"),
        ("whole", np.float64(2), "int"),
        ("whole", np.True_, "int"),
        ("real", "0.5", r"finite float \| None"),
        ("real", float("nan"), r"finite float \| None"),
        ("real", np.float32("inf"), r"finite float \| None"),
        ("real", True, r"finite float \| None"),
        ("real", 10**400, r"finite float \| None"),
        ("flag", 1, "bool"),
        ("flag", "yes", "bool"),
        ("name", b"x", "str"),
        ("choice", "c", r"'a' \| 'b'"),
        ("pair", (1, 2, 3), r"tuple\[int, finite float\]"),
        ("pair", (1.5, 2), r"tuple\[int, finite float\]"),
        ("many", 1.0, r"tuple\[finite float, ...\]"),
        ("many", ("x",), r"tuple\[finite float, ...\]"),
        ("file", 3, r"Path \| None"),
        ("either", "c", r"int \| 'a' \| 'b'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(field: str, value: Any, expected: str) -> None:
    with pytest.raises(OptionError, match=f"^{field} must be {expected}, found "):
        Sample(**{field: value})


def test_scalars_of_numpy_and_lists_are_taken_as_those_of_python() -> None:
    made = Sample(
        whole=np.uint8(3),  # type: ignore[arg-type]  # a NumPy scalar, which is converted
        real=np.float32(0.5),  # type: ignore[arg-type]  # a NumPy scalar, which is converted
        flag=np.True_,  # type: ignore[arg-type]  # a NumPy scalar, which is converted
        many=[1, np.float64(2)],  # type: ignore[arg-type]  # a list, converted as well
    )
    assert made == Sample(whole=3, real=0.5, flag=True, many=(1, 2.0))
    assert [type(made.whole), type(made.real), type(made.flag)] == [int, float, bool]


WRONG: list[Any] = ["0.5", float("nan"), [1], b"1", {}]
RIGHT = {
    "preset": "0.5",
    "scales": [1],
}  # of these values, the ones that have the type of an option


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (one.name, value)
        for one in fields(PipelineOptions)
        for value in WRONG
        if RIGHT.get(one.name) != value
    ],
)
def test_every_option_of_a_pipeline_checks_its_type(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be "):
        PipelineOptions(**{name: value})


def test_a_number_of_threads_that_no_machine_has_is_refused() -> None:
    with pytest.raises(OptionError, match="^threads must be at most 1024, found 100000000$"):
        PipelineOptions(threads=10**8)


def test_all_options_of_the_package_check_their_types() -> None:
    unchecked = [
        line
        for path in Path(foveate.__file__).parent.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.fullmatch(r"class \w*Options:", line)
    ]
    assert unchecked == ["class TypedOptions:"]


def test_numbers_below_their_bounds_are_refused_with_what_was_found() -> None:
    assert LoopOptions(steps=1).steps == 1
    with pytest.raises(OptionError, match="^steps must be at least 1, found 0$"):
        LoopOptions(steps=0)
    with pytest.raises(OptionError, match="^tolerance must be at least 0, found -0.5$"):
        CompareOptions(tolerance=-0.5)
