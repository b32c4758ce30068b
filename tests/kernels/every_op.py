# SPDX-License-Identifier: Apache-2.0
"""All operations of the package."""

from __future__ import annotations

from importlib import import_module

from foveate.kernels import Op
from foveate.kernels.build import FOLDER

OPS = tuple(
    value
    for path in sorted(FOLDER.glob("*/op.py"))
    for value in vars(import_module(f"foveate.kernels.{path.parent.name}.op")).values()
    if isinstance(value, Op)
)
