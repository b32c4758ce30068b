# SPDX-License-Identifier: Apache-2.0
"""The import of timm, also beside a build of torch that the wheel of torchvision does not fit."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import pytest
import torch

# timm imports torchvision, whose wheel on PyPI is for torch with CUDA. Beside torch for the CPU its
# binaries cannot be loaded, and the import fails for lack of two of their operators. Declaring them
# suffices, since the models call none.
OPERATORS = ("torchvision::nms", "torchvision::qnms")


def import_timm() -> Any:
    """Import timm, or skip the tests of the module if it is not installed."""
    if find_spec("timm") is None or find_spec("torchvision") is None:
        pytest.skip("timm or torchvision is not installed", allow_module_level=True)
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in OPERATORS:
            torch.library.define(name, "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    return importlib.import_module("timm")
