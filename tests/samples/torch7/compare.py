# SPDX-License-Identifier: Apache-2.0
"""A comparison of our reader of Torch7 files with ``torchfile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torchfile

from foveate.importing.torch7.reader import read_torch7
from foveate.importing.torch7.values import Function, Node, Table, Tensor, Value


def assert_equals_torchfile(file: Path) -> None:
    """Compare both trees; where an object occurs again, it has to be the same object in both."""
    pending: list[tuple[Value, Any]] = [
        (read_torch7(file), torchfile.load(str(file), use_list_heuristic=False))
    ]
    partners: dict[int, Any] = {}
    while pending:
        ours, theirs = pending.pop()
        if isinstance(ours, Table | Node | Function):
            if id(ours) in partners:
                assert partners[id(ours)] is theirs
                continue
            partners[id(ours)] = theirs
        pending += _compare(ours, theirs)


def _compare(ours: Value, theirs: Any) -> list[tuple[Value, Any]]:
    if isinstance(ours, Table):
        present = {_bytes(key): value for key, value in theirs.items() if value is not None}
        keys = [_bytes(key) for key in ours.entries]
        plain = [key for key in keys if not isinstance(key, Table | Node | Tensor | Function)]
        assert len(keys) == len(present)
        return [(ours.entries[_text(key)], present[key]) for key in plain]
    if isinstance(ours, Node):
        assert theirs.torch_typename() == _bytes(ours.name)
        assert theirs._version_number == ours.version
        return [(ours.fields, theirs._obj)]
    if isinstance(ours, Function):
        assert isinstance(theirs, torchfile.LuaFunction)
    elif isinstance(ours, Tensor):
        expanded = ours.storage is not None and ours.size > len(ours.storage.values)
        if (ours.size or theirs.size) and not expanded:  # of those no view is given
            np.testing.assert_array_equal(ours.view(), theirs)
            assert ours.view().dtype == theirs.dtype
    elif ours is not None and not isinstance(ours, str | float | int):
        np.testing.assert_array_equal(ours.values, theirs)
    else:
        assert _bytes(ours) == theirs or ours != ours  # noqa: PLR0124 - only NaN is
    return []


def _bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
