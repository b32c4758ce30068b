# SPDX-License-Identifier: Apache-2.0
"""Masks as CVAT keeps them, encoded by the package cvat-sdk; ``test_real_tools.py`` installs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from tests.results.test_polygons import noise

from foveate.arrays import BoolArray
from foveate.datasets import detections_from_cvat

masks = pytest.importorskip("cvat_sdk.masks", reason="needs the package cvat-sdk")


@given(pixels=noise())
@settings(max_examples=50)
def test_a_mask_of_cvat_is_read(
    pixels: BoolArray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    *runs, left, top, right, bottom = map(int, masks.encode_mask(pixels))
    height, width = pixels.shape
    # As CVAT exports it.
    shape = (
        f'<mask label="a" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" '
        f'width="{right - left + 1}" height="{bottom - top + 1}"/>'
    )
    image = f'<image name="a.jpg" width="{width}" height="{height}">{shape}</image>'
    file: Path = tmp_path_factory.getbasetemp() / "mask.xml"
    file.write_text(f"<annotations>{image}</annotations>", encoding="utf-8")
    assert np.array_equal(detections_from_cvat(file).masks[0], pixels)
