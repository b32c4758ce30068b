# SPDX-License-Identifier: Apache-2.0
"""Classification on a level of the pyramid: boxes of the whole level equal PyTorch's."""

from __future__ import annotations

from functools import cache

import pytest
from tests.samples.stages import inputs_of_level

from foveate.bundle import Bundle
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import TOLERANCE, stage_errors
from foveate.runtime.sizes import Sizes


@cache
def mini() -> tuple[Bundle, Stage]:
    bundle = Bundle.open("mini")
    (stage,) = (s for s in cascade_stages(cascade_from_bundle(bundle)) if s.name == "classify")
    return bundle, stage


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
    bundle, stage = mini()
    seen = Sizes.of(*size, bundle.manifest).features
    assert seen is not None
    assert (seen.height, seen.width) == level
    inputs = inputs_of_level(stage, *level, border=bundle.manifest.windows.padding)
    assert (seen.canvas_height, seen.canvas_width) == tuple(
        16 * side for side in inputs["map_16"].shape[2:]
    )
    errors = stage_errors(stage, bundle.stage_path("classify"), inputs)
    assert max(errors.values()) <= TOLERANCE, errors
