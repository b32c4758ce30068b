# SPDX-License-Identifier: Apache-2.0
"""Weights of other programs: the original Torch7 models, torchvision's trunks, a PyTorch port."""

from foveate.importing.checkpoints import save_imported
from foveate.importing.class_names import class_names
from foveate.importing.found import Found, count_parameters
from foveate.importing.pytorch_import import import_torch
from foveate.importing.torch7.importer import import_torch7

__all__ = [
    "Found",
    "class_names",
    "count_parameters",
    "import_torch",
    "import_torch7",
    "save_imported",
]
