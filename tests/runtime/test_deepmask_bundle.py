# SPDX-License-Identifier: Apache-2.0
"""A DeepMask's bundle has no refinement: masks of 56 x 56 come from the vectors alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveate.arrays import Array
from foveate.bundle import Bundle, MaskSpec, StageSpec, TensorSpec
from foveate.runtime.engines import FunctionEngine
from foveate.runtime.pipeline import Pipeline

SIDE = 56


def spec_of(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def propose(inputs: dict[str, Array]) -> Mapping[str, Array]:
    """Prefer the cell whose window starts at the image's top left; a vector is its cell."""
    height, width = inputs["image"].shape[2:]
    rows, columns = np.mgrid[: height // 16 - 9, : width // 16 - 9]
    scores = 5.0 - np.hypot(rows - 5, columns - 5)
    return {"scores": scores[None, None], "vectors": np.stack([rows, columns])[None]}


def refine(inputs: dict[str, Array]) -> Mapping[str, Array]:
    assert set(inputs) == {"vectors"}
    logits = np.full((len(inputs["vectors"]), SIDE, SIDE), -1.0)
    logits[:, 14:28, 28:42] = 1.0
    return {"logits": logits}


def test_masks_of_56_are_pasted_over_the_window(proposing_bundle: Path) -> None:
    opened = Bundle.open(proposing_bundle)
    stages = {
        "propose": StageSpec(
            file="propose.onnx",
            inputs=(spec_of("image", 1, 3, "height", "width"),),
            outputs=(spec_of("scores", 1, 1, "r", "c"), spec_of("vectors", 1, 2, "r", "c")),
        ),
        "refine": StageSpec(
            file="refine.onnx",
            inputs=(spec_of("vectors", "windows", 2),),
            outputs=(spec_of("logits", "windows", SIDE, SIDE),),
        ),
    }
    manifest = replace(
        opened.manifest,
        stages=stages,
        mask=MaskSpec(size=SIDE, threshold=0.0),
        pyramid=replace(opened.manifest.pyramid, scales=(1.0,)),
    )
    functions = {"propose": propose, "refine": refine}
    engines = {
        name: FunctionEngine(stage.inputs, stage.outputs, functions[name])
        for name, stage in stages.items()
    }
    pipeline = Pipeline(Bundle(opened.root, manifest), engines)
    proposals = pipeline.propose(np.zeros((200, 200, 3), np.uint8))
    # Cell (5, 5) starts at 16 * 5 - 80 = 0; samples 14..28 of 56 are pixels 40..80 of 160.
    assert proposals.boxes[0].tolist() == [80, 40, 120, 80]
    # Bilinear: at the four corners the ground weighs more.
    assert proposals[0].mask.sum() == 40 * 40 - 4
