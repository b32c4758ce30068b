# SPDX-License-Identifier: Apache-2.0
"""Importers of weights: original Torch7 models, trunks of torchvision, a PyTorch port."""

from foveate.importing.imported_weights import (
    ImportedWeights,
    class_names,
    count_parameters,
    save_imported,
)
from foveate.importing.pytorch import import_torch
from foveate.importing.torch7.importer import import_torch7

__all__ = [
    "ImportedWeights",
    "class_names",
    "count_parameters",
    "import_torch",
    "import_torch7",
    "save_imported",
]
