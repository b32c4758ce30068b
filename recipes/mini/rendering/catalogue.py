# SPDX-License-Identifier: Apache-2.0
"""The models of Sweet Home 3D's furniture libraries, and their meshes in Blender."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

# In bytes; larger meshes take longer to read than to render.
LARGEST_FILE = 12_000_000

UNWANTED_CATEGORIES = {"Doors and windows", "Staircases"}
NOT_ONE_OBJECT = re.compile(
    r"living room|cutlery|radiator|socket|carpet|rug|tatami|bathmat|sidewalk|pool$|swimming|"
    r"curtain|blind|fence|railing|elevator|column|socket|room|corridor",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of a catalogue.

    Args:
        name: Name of the object, in English.
        category: Category of the catalogue; "Characters" are people and animals.
        file: Wavefront OBJ.
        size: Width, depth and height in meters.
        rotation: 3x3 by rows, applied to the mesh first, or None.
    """

    name: str
    category: str
    file: Path
    size: tuple[float, ...]
    rotation: tuple[float, ...] | None


def read_catalogues(root: Path) -> list[Model]:
    """Read every library under a directory, without models that are not a single object."""
    models = []
    for properties in sorted(root.glob("*/PluginFurnitureCatalog.properties")):
        entries: dict[int, dict[str, str]] = {}
        for line in properties.read_text("latin-1").splitlines():
            if match := re.match(r"(\w+)#(\d+)=(.*)", line):
                entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
        models += [model for e in entries.values() if (model := _read_entry(properties.parent, e))]
    return models


def _read_entry(folder: Path, entry: dict[str, str]) -> Model | None:
    file = folder / entry.get("model", "").lstrip("/")
    if entry.get("category") in UNWANTED_CATEGORIES or NOT_ONE_OBJECT.search(entry["name"]):
        return None
    if not file.is_file() or file.stat().st_size > LARGEST_FILE:
        return None
    rotation = entry.get("modelRotation")
    return Model(
        name=entry["name"],
        category=entry["category"],
        file=file,
        size=tuple(float(entry[axis]) / 100 for axis in ("width", "depth", "height")),
        rotation=tuple(map(float, rotation.split())) if rotation else None,
    )


def load(model: Model) -> Any | None:
    """Read a model as one object: meters, z up, the middle of its base at the origin.

    Returns:
        A hidden object of Blender, to be copied into scenes; None where the file has no mesh.
    """
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.wm.obj_import(filepath=str(model.file), forward_axis="Y", up_axis="Z")
    parts = [part for part in bpy.context.selected_objects if part.type == "MESH"]
    if not parts:
        return None
    bpy.context.view_layer.objects.active = parts[0]
    if len(parts) > 1:
        bpy.ops.object.join()
    thing = bpy.context.view_layer.objects.active
    mesh = thing.data
    if len(mesh.vertices) < 4:
        return None
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    mesh.vertices.foreach_set("co", _normalize(points.reshape(-1, 3), model).ravel())
    mesh.update()
    thing["size"], thing["model"] = model.size, model.name
    thing["person"] = int(model.category == "Characters")
    thing.hide_render = True
    return thing


def _normalize(points: np.ndarray, model: Model) -> np.ndarray:
    """Turn and stretch (N, 3) float32 points with y up to the catalogue's size, with z up."""
    if model.rotation:
        points = points @ np.array(model.rotation, np.float32).reshape(3, 3).T
    low, high = points.min(0), points.max(0)
    width, depth, height = model.size
    points = (points - (low + high) / 2) / np.maximum(high - low, 1e-6) * (width, height, depth)
    points[:, 1] += height / 2
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], 1).astype(np.float32)
