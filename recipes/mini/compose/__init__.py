# SPDX-License-Identifier: Apache-2.0
"""Data sets for instance segmentation, composed of cut-outs and backgrounds."""

from compose.dataset import write_dataset
from compose.families import assign_backgrounds, assign_cutouts
from compose.library import Library, load_library
from compose.lists import Entry, find_backgrounds, find_cutouts, read_list, write_list
from compose.options import (
    ComposeOptions,
    PasteOptions,
    options_from_json,
    options_to_json,
    training_options,
    validation_options,
)
from compose.photographs import CLASS_NAMES, Photographs
from compose.relabeled import Relabeled
from compose.scene import Composition, Scene, compose_scene
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
    "Scene",
    "Sources",
    "assign_backgrounds",
    "assign_cutouts",
    "compose_scene",
    "find_backgrounds",
    "find_cutouts",
    "load_library",
    "options_from_json",
    "options_to_json",
    "read_list",
    "training_options",
    "validation_options",
    "write_dataset",
    "write_list",
]
