# SPDX-License-Identifier: Apache-2.0
"""Render random scenes of free 3D models, and the object of each pixel.

    python recipes/mini/rendering/render.py CATALOGUES TEXTURES DIRECTORY FIRST LAST

It needs an interpreter with `bpy` 4.2 (`pip install bpy==4.2.0`, Python 3.11) and no other
package of Foveate. CATALOGUES holds the unzipped furniture libraries, TEXTURES lists one image per line. For scene
N of FIRST..LAST it writes `N.png` (RGBA; a photograph fills the transparent pixels later) and
`N_index_0001.png` (16 bit: the object's number, 0 for none). Existing scenes are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from catalogue import Model, load, read_catalogues
from scene import arrange

# Scenes that share their models: reading a mesh takes as long as rendering a scene.
SCENES_PER_SET = 40

MODELS_PER_SET = 80
PEOPLE_PER_SET = 8
SIZE = (480, 360)
SAMPLES = 5


def main() -> None:
    """Render the scenes."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("catalogues", type=Path)
    parser.add_argument("textures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    arguments = parser.parse_args()
    textures = [Path(line) for line in arguments.textures.read_text().splitlines()]
    models = read_catalogues(arguments.catalogues)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for first in range(arguments.first, arguments.last, SCENES_PER_SET):
        last = min(first + SCENES_PER_SET, arguments.last)
        _render_set(models, textures, arguments.folder, first, last)


def _render_set(
    models: list[Model], textures: list[Path], folder: Path, first: int, last: int
) -> None:
    scene = _new_scene()
    chosen = _choose(models, np.random.default_rng([7, first]))
    library = [thing for model in chosen if (thing := load(model)) is not None]
    kept = set(bpy.data.objects)
    for number in range(first, last):
        target = folder / f"{number:05d}.png"
        if target.exists():
            continue
        arrange(scene, library, textures, np.random.default_rng([8, number]))
        aside = target.with_suffix(".part.png")
        scene.render.filepath = str(aside)
        index = scene.node_tree.nodes["index"]
        index.base_path, index.file_slots[0].path = str(folder), f"{number:05d}_index_"
        bpy.ops.render.render(write_still=True)
        for thing in set(bpy.data.objects) - kept:
            bpy.data.objects.remove(thing)
        aside.rename(target)


def _choose(models: list[Model], rng: np.random.Generator) -> list[Model]:
    """Choose any models, and some people: they are few among many, and often photographed."""
    chosen = [models[i] for i in rng.choice(len(models), MODELS_PER_SET, replace=False)]
    people = [model for model in models if model.category == "Characters"]
    return chosen + [people[i] for i in rng.permutation(len(people))[:PEOPLE_PER_SET]]


def _new_scene() -> Any:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = SAMPLES
    scene.cycles.max_bounces = 1
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = True
    scene.cycles.denoising_quality, scene.cycles.denoising_prefilter = "FAST", "NONE"
    scene.cycles.denoising_input_passes = "RGB"
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.color_mode = "RGBA"
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.camera.data.clip_start = 0.01
    scene.collection.objects.link(scene.camera)
    _write_indices(scene)
    return scene


def _write_indices(scene: Any) -> None:
    """Make every rendering also write the numbers of objects, as 16-bit levels."""
    scene.view_layers[0].use_pass_object_index = True
    scene.use_nodes = True
    tree = scene.node_tree
    layers = tree.nodes.new("CompositorNodeRLayers")
    composite = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(layers.outputs["Image"], composite.inputs["Image"])
    tree.links.new(layers.outputs["Alpha"], composite.inputs["Alpha"])
    divide = tree.nodes.new("CompositorNodeMath")
    divide.operation, divide.inputs[1].default_value = "DIVIDE", 65535.0
    tree.links.new(layers.outputs["IndexOB"], divide.inputs[0])
    file = tree.nodes.new("CompositorNodeOutputFile")
    file.name = "index"
    file.format.file_format, file.format.color_mode = "PNG", "BW"
    file.format.color_depth, file.format.color_management = "16", "OVERRIDE"
    file.format.view_settings.view_transform = "Raw"
    tree.links.new(divide.outputs[0], file.inputs[0])


if __name__ == "__main__":
    main()
