# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from foveate import errors
from foveate.errors import BackendError, FoveateError, InputError, MissingExtraError
from foveate.protocol.client import BusyError


def test_text_is_one_line_of_what_file_and_remedy() -> None:
    error = InputError("it is\nbroken", file=Path("a/b.jpg"), remedy="fix it")
    assert str(error) == "it is broken: a/b.jpg: fix it"
    assert (error.what, error.file, error.remedy) == ("it is\nbroken", "a/b.jpg", "fix it")


def test_absent_parts_leave_no_trace() -> None:
    assert str(FoveateError("broken")) == "broken"
    assert str(FoveateError("broken", remedy="fix it")) == "broken: fix it"


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    error = MissingExtraError("torch", "train")
    assert isinstance(error, BackendError)
    assert str(error).endswith("pip install 'foveate[train]'")


@pytest.mark.parametrize(
    "error",
    [
        MissingExtraError("torch", "train"),
        InputError("bad", file="x", remedy="y"),
        BusyError(429, 2.5),
    ],
)
def test_errors_survive_pickling(error: FoveateError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_the_docstring_lists_every_error() -> None:
    for name, value in inspect.getmembers(errors, inspect.isclass):
        if issubclass(value, Exception):
            assert name in (errors.__doc__ or "")
            assert name in errors.__all__
