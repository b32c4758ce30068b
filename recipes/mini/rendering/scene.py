# SPDX-License-Identifier: Apache-2.0
"""A random scene: things on a floor, a table or under the sky, a camera, and light."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

# Names of furniture that smaller things may stand on.
SUPPORT = re.compile(r"table|desk|cabinet|drawer|stand|bench|unit|island|box$", re.IGNORECASE)

FULL_TURN = 6.28


def arrange(
    scene: Any, library: Sequence[Any], textures: Sequence[Path], rng: np.random.Generator
) -> None:
    """Fill an empty scene.

    Args:
        scene: Blender's scene, with a camera; what is made transparent shows a backdrop later.
        library: Loaded models.
        textures: Images for floors and walls.
        rng: The only source of randomness.
    """
    kind = str(rng.choice(["room", "table", "outdoor"], p=[0.5, 0.2, 0.3]))
    unit, depth, fitting = 1.0, (1.8, 6.5), (0.45, 5.0)
    if kind == "table":
        unit, depth, fitting = 0.12, (0.4, 1.3), (0.03, 0.6)
    pool = [thing for thing in library if fitting[0] < max(thing["size"]) < fitting[1]]
    if len(pool) < 4:
        kind, pool, depth = "room", list(library), (1.8, 6.5)
    half = _aim(scene.camera, kind, depth, rng)
    _populate(kind, library, pool, depth, half, rng)
    scene.render.film_transparent = kind == "outdoor"
    if kind == "outdoor":
        _plane(200, (0, 0, 0), (0, 0, 0)).is_shadow_catcher = True
    else:
        _enclose(textures, unit, depth, half, rng)
    _light(scene, kind, unit, rng)


def _aim(camera: Any, kind: str, depth: tuple[float, float], rng: np.random.Generator) -> float:
    """Place the camera; return half of the view's width at a distance of 1."""
    lens = float(rng.uniform(24, 50))
    height = rng.uniform(0.2, 0.7) if kind == "table" else rng.uniform(0.7, 2.0)
    camera.data.lens = lens
    camera.location = (0, 0, height)
    target = Vector((rng.normal(0, 0.15), 1, 0)) * float(np.mean(depth)) * 0.8
    target.z = height * 0.15 if kind == "table" else float(rng.uniform(0.2, 0.9))
    camera.rotation_euler = (target - camera.location).to_track_quat("-Z", "Y").to_euler()
    camera.rotation_euler.rotate_axis("Z", float(rng.normal(0, 0.04)))
    return 18 / lens  # half of a 36 mm sensor


def _populate(
    kind: str,
    library: Sequence[Any],
    pool: Sequence[Any],
    depth: tuple[float, float],
    half: float,
    rng: np.random.Generator,
) -> None:
    """Stand things side by side in the view, and small ones on tables."""
    taken: list[tuple[float, float, float]] = []
    people = [thing for thing in pool if thing["person"]]
    index, wanted = 0, int(rng.integers(4, 14))
    for _ in range(wanted * 15):
        if index >= wanted:
            break
        choices = people if people and rng.random() < 0.25 else pool
        thing = choices[int(rng.integers(len(choices)))]
        scale = float(np.exp(rng.normal(0, 0.1)))
        size = np.array(thing["size"]) * scale
        y = float(rng.uniform(*depth) + size[1] / 2)
        x = float(rng.uniform(-1, 1) * half * y)
        radius = 0.5 * float(np.hypot(size[0], size[1])) * 0.75
        if any(math.hypot(x - a, y - b) < radius + c for a, b, c in taken):
            continue
        if math.hypot(x, y) < radius + 0.3:
            continue
        taken.append((x, y, radius))
        index += 1
        turn = float(rng.uniform(0, 2 * math.pi))
        _place(thing, (x, y, 0), turn, index, scale)
        if kind != "table" and SUPPORT.search(thing["model"]) and 0.3 < size[2] < 1.3:
            index = _lay((x, y), turn, size, index, library, rng)


def _lay(
    position: tuple[float, float],
    turn: float,
    size: np.ndarray,
    index: int,
    library: Sequence[Any],
    rng: np.random.Generator,
) -> int:
    """Lay up to three small things on a table; return the last index given."""
    small = [thing for thing in library if 0.05 < max(thing["size"]) < 0.6]
    for _ in range(int(rng.integers(0, 4))) if small else ():
        piece = small[int(rng.integers(len(small)))]
        dx, dy = rng.uniform(-0.3, 0.3, 2) * size[:2]
        cosine, sine = math.cos(turn), math.sin(turn)
        x = position[0] + cosine * dx - sine * dy
        y = position[1] + sine * dx + cosine * dy
        index += 1
        _place(piece, (x, y, float(size[2])), float(rng.uniform(0, FULL_TURN)), index)
    return index


def _place(
    source: Any, location: tuple[float, float, float], turn: float, index: int, scale: float = 1.0
) -> None:
    copy = source.copy()  # the mesh is shared
    copy.hide_render = False
    copy.location, copy.rotation_euler = location, (0, 0, turn)
    copy.scale = (scale, scale, scale)
    copy.pass_index = index
    bpy.context.scene.collection.objects.link(copy)


def _enclose(
    textures: Sequence[Path],
    unit: float,
    depth: tuple[float, float],
    half: float,
    rng: np.random.Generator,
) -> None:
    """Lay a floor, put up a wall behind it, and often one at a side."""

    def surface(low: float, high: float) -> Any:
        file = textures[int(rng.integers(len(textures)))]
        return _material(file, float(rng.uniform(low, high)) / unit, rng)

    quarter = math.pi / 2
    turned = (0, 0, float(rng.uniform(0, FULL_TURN)))
    _plane(30, (0, 0, 0), turned, surface(5, 30))
    back = float(depth[1] + rng.uniform(0.2, 2.5) * unit)
    turn = float(rng.normal(0, 0.3))
    _plane(30, (0, back + abs(turn), 0), (quarter, 0, turn), surface(3, 20))
    if rng.random() < 0.6:
        side = rng.choice([-1, 1]) * half * back * rng.uniform(0.7, 1.1)
        _plane(30, (side, 0, 0), (quarter, 0, quarter + turn), surface(3, 20))


def _plane(
    size: float,
    location: tuple[float, float, float],
    rotation: tuple[float, float, float],
    material: Any | None = None,
) -> Any:
    bpy.ops.mesh.primitive_plane_add(size=size, location=location, rotation=rotation)
    surface = bpy.context.active_object
    if material:
        surface.data.materials.append(material)
    return surface


def _material(file: Path, tiles: float, rng: np.random.Generator) -> Any:
    """A plain color or an image that repeats `tiles` times."""
    material = bpy.data.materials.new("surface")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = float(rng.uniform(0.3, 1))
    if rng.random() < 0.35:
        value = rng.uniform(0.05, 0.9)
        color = np.clip(value + rng.normal(0, 0.12, 3), 0.02, 0.95)
        shader.inputs["Base Color"].default_value = (*map(float, color), 1)
        return material
    image = nodes.new("ShaderNodeTexImage")
    image.image = bpy.data.images.load(str(file), check_existing=True)
    coordinates, mapping = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
    mapping.inputs["Scale"].default_value = (tiles, tiles, tiles)
    links.new(coordinates.outputs["UV"], mapping.inputs["Vector"])
    links.new(mapping.outputs["Vector"], image.inputs["Vector"])
    links.new(image.outputs["Color"], shader.inputs["Base Color"])
    return material


def _light(scene: Any, kind: str, unit: float, rng: np.random.Generator) -> None:
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    warmth = rng.normal(0, 0.08)
    background.inputs["Color"].default_value = (1 + warmth, 1, 1 - warmth, 1)
    background.inputs["Strength"].default_value = float(rng.uniform(0.25, 1.0))
    scene.world = world
    for _ in range(int(rng.integers(1, 3))):
        holder = _sun(rng) if kind == "outdoor" or rng.random() < 0.4 else _lamp(unit, rng)
        scene.collection.objects.link(holder)


def _sun(rng: np.random.Generator) -> Any:
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy, sun.angle = float(rng.uniform(0.8, 4)), float(rng.uniform(0.01, 0.3))
    holder = bpy.data.objects.new("sun", sun)
    holder.rotation_euler = (float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-0.9, 0.9)), 0)
    return holder


def _lamp(unit: float, rng: np.random.Generator) -> Any:
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.energy = float(rng.uniform(40, 250)) * unit**2
    lamp.size = float(rng.uniform(0.3, 2)) * unit
    x, y = float(rng.uniform(-2, 2)) * unit, float(rng.uniform(0, 4)) * unit
    holder = bpy.data.objects.new("area", lamp)
    holder.location = (x, y, 2.6 * max(unit, 0.4))
    lamp.color = (1, float(rng.uniform(0.8, 1)), float(rng.uniform(0.6, 1)))
    return holder
