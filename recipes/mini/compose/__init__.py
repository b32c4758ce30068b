# SPDX-License-Identifier: Apache-2.0
"""Data sets for instance segmentation, composed of cut-outs and backgrounds."""

from compose.dataset import write_dataset
from compose.families import assign_backgrounds, assign_cutouts
from compose.library import Library
from compose.lists import Entry, read_list, write_list
from compose.options import ComposeOptions, PasteOptions, training_options, validation_options
from compose.photographs import CLASS_NAMES, Photographs, Relabeled
from compose.scene import Composition
from compose.sources import FixedSet, Sources

__all__ = [
    "CLASS_NAMES",
    "ComposeOptions",
    "Composition",
    "Entry",
    "FixedSet",
    "Library",
    "PasteOptions",
    "Photographs",
    "Relabeled",
    "Sources",
    "assign_backgrounds",
    "assign_cutouts",
    "read_list",
    "training_options",
    "validation_options",
    "write_dataset",
    "write_list",
]
