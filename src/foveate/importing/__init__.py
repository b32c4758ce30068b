# SPDX-License-Identifier: Apache-2.0
"""Weights of other programs: the original Torch7 models, torchvision's trunks, PyTorch ports."""

from foveate.importing.found import Found
from foveate.importing.torch7_import import import_torch7

__all__ = ["Found", "import_torch7"]
