# SPDX-License-Identifier: Apache-2.0
"""Classification on a level of the pyramid: boxes of the whole level equal PyTorch's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from foveate.bundle import Bundle
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import TOLERANCE
from foveate.runtime.sizes import Sizes

BORDER = 48
"""Width of the fill around a level, in pixels."""


@cache
def mini() -> tuple[Bundle, Stage, onnxruntime.InferenceSession]:
    bundle = Bundle.open("mini")
    (stage,) = (s for s in cascade_stages(cascade_from_bundle(bundle)) if s.name == "classify")
    session = onnxruntime.InferenceSession(
        bundle.stage_path("classify"), providers=["CPUExecutionProvider"]
    )
    return bundle, stage, session


def inputs_of(stage: Stage, height: int, width: int) -> dict[str, np.ndarray]:
    """Return random maps of a level of this size with its fill, and one box, the whole level."""
    random = np.random.default_rng(0)
    sides = [16 * -(-(side + 2 * BORDER) // 16) for side in (height, width)]
    inputs = {}
    for name, example in stage.inputs.items():
        if name != "boxes":
            stride = int(name.removeprefix("map_"))
            shape = (1, example.shape[1], sides[0] // stride, sides[1] // stride)
            inputs[name] = random.standard_normal(shape).astype(np.float32)
    box = [[BORDER, BORDER, BORDER + width, BORDER + height]]
    return inputs | {"boxes": np.array(box, np.float32)}


def assert_agrees(
    stage: Stage, session: onnxruntime.InferenceSession, height: int, width: int
) -> None:
    inputs = inputs_of(stage, height, width)
    with torch.inference_mode():
        expected = stage.module(*map(torch.from_numpy, inputs.values()))
    for found, one in zip(session.run(None, inputs), expected, strict=True):
        error = np.abs(np.asarray(found) - one.numpy()).max()
        assert error <= TOLERANCE * max(1.0, float(one.abs().max()))


@pytest.mark.parametrize(
    ("size", "level"),
    [
        ((300, 1000), (300, 1000)),
        ((1000, 300), (1000, 300)),
        # These levels are longer than the 1024 pixels that the classifier asks for.
        ((300, 850), (424, 1202)),
        ((850, 300), (1202, 424)),
        ((30, 40), (60, 80)),
        ((3000, 4000), (543, 724)),
    ],
)
def test_a_box_of_the_whole_image_is_classified_as_in_pytorch(
    size: tuple[int, int], level: tuple[int, int]
) -> None:
    bundle, stage, session = mini()
    seen = Sizes.of(*size, bundle.manifest).features
    assert seen is not None
    assert (seen.height, seen.width) == level
    assert (seen.canvas_height, seen.canvas_width) == tuple(
        16 * side for side in inputs_of(stage, *level)["map_16"].shape[2:]
    )
    assert_agrees(stage, session, *level)


def test_a_bundle_whose_smallest_level_is_large_classifies_whole_images(tmp_path: Path) -> None:
    options = ExportOptions(scales=(1.0, 2.0), short_side=128, long_side=256)
    bundle = export_bundle(cascade_from_bundle(mini()[0]), tmp_path / "bundle", options)
    seen = Sizes.of(768, 1024, bundle.manifest).features
    assert seen is not None
    assert (seen.height, seen.width) == (768, 1024)
    session = onnxruntime.InferenceSession(
        bundle.stage_path("classify"), providers=["CPUExecutionProvider"]
    )
    assert_agrees(mini()[1], session, 768, 1024)
    assert_agrees(mini()[1], session, 1024, 768)
