# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foveate
from foveate.bundle import Bundle
from foveate.errors import OptionError
from foveate.runtime.options import PipelineOptions
from foveate.runtime.tiling import Tile, Tiling

sides = st.integers(1, 3000)


def covered(tiles: list[Tile], height: int, width: int) -> np.ndarray:
    count = np.zeros((height, width), np.uint8)
    for tile in tiles:
        count[tile.top : tile.bottom, tile.left : tile.right] += 1
    return count


@settings(max_examples=60)
@given(height=sides, width=sides, side=st.integers(64, 900), share=st.integers(0, 50))
def test_tiles_of_one_size_cover_every_pixel(
    height: int, width: int, side: int, share: int
) -> None:
    tiling = Tiling(side=side, overlap=side * share // 100, above=side)
    whole, *tiles = tiling.tiles(height, width)
    assert whole == Tile(left=0, top=0, right=width, bottom=height)
    if max(height, width) <= side:
        assert tiles == []
        return
    assert all(0 <= t.left < t.right <= width and 0 <= t.top < t.bottom <= height for t in tiles)
    fine = [t for t in tiles if (t.height, t.width) == (min(side, height), min(side, width))]
    assert covered(fine, height, width).all()
    assert len(fine) == len(set(fine))


@settings(max_examples=60)
@given(height=sides, width=sides, side=st.integers(64, 900), data=st.data())
def test_an_object_of_the_size_of_the_overlap_lies_in_a_tile(
    height: int, width: int, side: int, data: st.DataObject
) -> None:
    overlap = side // 4
    _, *tiles = Tiling(side=side, overlap=overlap, above=0).tiles(height, width)
    top = data.draw(st.integers(0, max(height - overlap, 0)))
    left = data.draw(st.integers(0, max(width - overlap, 0)))
    bottom, right = min(top + overlap, height), min(left + overlap, width)
    assert any(
        t.left <= left and t.top <= top and t.right >= right and t.bottom >= bottom for t in tiles
    )


def test_tiles_are_spaced_evenly() -> None:
    _, *tiles = Tiling(side=400, overlap=100, above=400).tiles(300, 1300)
    assert [(t.left, t.right, t.top, t.bottom) for t in tiles] == [
        (0, 400, 0, 300),
        (300, 700, 0, 300),
        (600, 1000, 0, 300),
        (900, 1300, 0, 300),
    ]


def test_a_large_image_has_levels_of_tiles_that_overlap_by_the_same_share() -> None:
    whole, *tiles = Tiling(side=100, overlap=20, above=100).tiles(350, 1500)
    coarse = [t for t in tiles if t.width == 400]
    assert whole.width == 1500
    assert [t.width for t in tiles] == [400] * len(coarse) + [100] * (len(tiles) - len(coarse))
    assert all(one.right - other.left >= 80 for one, other in pairwise(coarse))
    assert len(coarse) == 5  # 4 steps of 320 pixels at most
    assert [t.width for t in Tiling(side=100, overlap=20, above=100).tiles(50, 400)] == [
        400,
        *[100] * 5,
    ]


@pytest.mark.parametrize(
    ("tiles", "longer", "count"),
    [
        ("off", 5000, 1),
        ("auto", 1023, 1),
        ("auto", 1024, 6),
        (512, 512, 1),
        (512, 600, 3),
        (64, 256, 1),  # no larger than max_side, so that a tile would be no finer
        (64, 257, 9),
    ],
)
def test_images_are_tiled_from_a_length_on(
    contrast_bundle: Path, tiles: int | Literal["auto", "off"], longer: int, count: int
) -> None:
    options = PipelineOptions(tiles=tiles)
    manifest = options.applied_to(Bundle.open(contrast_bundle).manifest)
    assert manifest.pyramid.max_side == 256
    assert len(Tiling.of(options, manifest).tiles(60, longer)) == count


def test_tiles_may_overlap_by_half_of_their_side(contrast_bundle: Path) -> None:
    options = PipelineOptions(tiles=512, tile_overlap=256)
    tiling = Tiling.of(options, Bundle.open(contrast_bundle).manifest)
    assert [tile.left for tile in tiling.tiles(60, 1024)[1:]] == [0, 256, 512]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tiles": 63}, "tiles must be at least 64, found 63"),
        ({"tiles": -1}, "tiles must be at least 64, found -1"),
        ({"tiles": "on"}, r"tiles must be int \| 'auto' \| 'off', found 'on'"),
        ({"tiles": True}, "tiles must be .*, found True"),
        ({"tile_overlap": 10}, "tile_overlap needs tiles, found tile_overlap=10, tiles='off'"),
        ({"tiles": 512, "tile_overlap": -1}, "tile_overlap must be at least 0, found -1"),
        (
            {"tiles": 512, "tile_overlap": 257},
            "tile_overlap must be at most 256, half of the side of the tiles, found 257",
        ),
        (
            {"tiles": "auto", "tile_overlap": 129},
            "tile_overlap must be at most 128, half of the side of the tiles, found 129",
        ),
        (
            {"tiles": 512, "pyramid": "full-resolution"},
            r"tiles=512 needs pyramid='working-size', found 'full-resolution': omit one of them",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    contrast_bundle: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(OptionError, match=text):
        foveate.load(contrast_bundle, options=PipelineOptions(**options))
