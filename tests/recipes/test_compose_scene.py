# SPDX-License-Identifier: Apache-2.0
"""Composed images: determinism, alpha, masks under overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compose import (
    ComposeOptions,
    Composition,
    Entry,
    Library,
    training_options,
    validation_options,
)
from compose.layer import Layer, feather, lay_over, transform
from compose.library import Background, Cutout
from compose.options import ObjectOptions
from compose.scene import _Canvas
from foveate.errors import DataError

SMALL = ((160, 120), (120, 160))


def draw_cutout(number: int) -> Cutout:
    """A colored ellipse with a hole and an antialiased edge; what is transparent is black."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(24, 60, 2)
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x + 0.5) / width * 2 - 1, (y + 0.5) / height * 2 - 1)
    alpha = ((0.95 - distance) * 10).clip(0, 1) * (distance > 0.2)
    image = np.zeros((height, width, 4), np.uint8)
    image[..., :3] = (rng.integers(60, 255, 3) * (alpha > 0)[..., None]).astype(np.uint8)
    image[..., 3] = (255 * alpha).round()
    return Cutout(entry=Entry(path=f"{number}.png", family=f"f{number}"), image=image)


def draw_background(number: int) -> Background:
    rng = np.random.default_rng(1000 + number)
    image = rng.integers(0, 256, (180, 240, 3), dtype=np.uint8)
    return Background(entry=Entry(path=f"b{number}.png"), image=image)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(
        class_names=("one", "two"),
        cutouts=(
            tuple((draw_cutout(number),) for number in range(3)),
            ((draw_cutout(3), draw_cutout(4)),),
        ),
        backgrounds=(((draw_background(0),), (draw_background(1),)),),
    )


def small(options: ComposeOptions) -> ComposeOptions:
    objects = replace(options.objects, larger_side=(20.0, 150.0), min_visible_area=40)
    return replace(options, sizes=SMALL, objects=objects)


@pytest.mark.parametrize("options", [training_options(), validation_options()])
def test_same_seed_and_index_give_the_same_bits(library: Library, options: ComposeOptions) -> None:
    Composition(library=library, options=small(options), seed=5).scene(0)
    first = Composition(library=library, options=small(options), seed=5).scene(7)
    again = Composition(library=library, options=small(options), seed=5).scene(7)
    assert np.array_equal(first.image, again.image)
    assert len(first.objects) == len(again.objects)
    for one, other in zip(first.objects, again.objects, strict=True):
        assert one.entry is other.entry
        assert np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize(("seed", "index"), [(5, 8), (6, 7)])
def test_another_seed_or_index_gives_another_image(library: Library, seed: int, index: int) -> None:
    options = replace(small(training_options()), sizes=SMALL[:1])
    first = Composition(library=library, options=options, seed=5).scene(7)
    other = Composition(library=library, options=options, seed=seed).scene(index)
    assert not np.array_equal(first.image, other.image)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), rough=st.booleans())
def test_masks_are_disjoint_and_large_enough(seed: int, rough: bool) -> None:
    options = small(training_options() if rough else validation_options())
    library = Library(
        class_names=("one", "two"),
        cutouts=(((draw_cutout(0),),), ((draw_cutout(1), draw_cutout(2)),)),
        backgrounds=(((draw_background(0),),),),
    )
    scene = Composition(library=library, options=options, seed=seed).scene(0)
    height, width = scene.image.shape[:2]
    assert (width, height) in SMALL
    assert scene.image.dtype == np.uint8
    assert options.objects.count[0] <= len(scene.objects) <= options.objects.count[1]
    stack = np.stack([placed.mask for placed in scene.objects])
    assert stack.sum(axis=0).max() <= 1
    assert stack.sum(axis=(1, 2)).min() >= options.objects.min_visible_area


Place = tuple[int, int, int]


@settings(max_examples=25)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 3), st.integers(-15, 35), st.integers(-15, 25)),
        min_size=1,
        max_size=5,
    ),
    distractors=st.sets(st.integers(0, 4)),
)
def test_visible_masks_equal_those_of_a_slow_compositor(
    places: list[Place], distractors: set[int]
) -> None:
    layers = [draw_layer(number) for number, _, _ in places]
    canvas = _Canvas(np.full((30, 40, 3), 90, np.float32), ObjectOptions())
    for order, (layer, (number, left, top)) in enumerate(zip(layers, places, strict=True)):
        thing = None if order in distractors else (draw_cutout(number), 1)
        canvas.add(layer, left, top, thing)

    image, masks = compose_slowly(layers, places, distractors)
    assert np.allclose(canvas.image, image, atol=1e-3)
    assert len(canvas.things) == len(masks)
    for number, mask in enumerate(masks):
        assert np.array_equal(canvas.owner == number, mask)


def draw_layer(number: int) -> Layer:
    image = draw_cutout(number).image
    rgba = transform(image, width=image.shape[1], height=image.shape[0], degrees=17.0)
    return feather(rgba, 0.8)


def compose_slowly(
    layers: list[Layer], places: list[Place], distractors: set[int]
) -> tuple[NDArray[np.float64], list[NDArray[np.bool_]]]:
    """Pixel by pixel: color by the rule of over, and the topmost layer with alpha above 1/2."""
    image = np.full((30, 40, 3), 90.0)
    top_layer = np.full((30, 40), -1)
    for order, (layer, (_, left, top)) in enumerate(zip(layers, places, strict=True)):
        for y, x in np.ndindex(*layer.alpha.shape):
            row, column = y + top, x + left
            if 0 <= row < 30 and 0 <= column < 40:
                alpha = float(layer.alpha[y, x])
                image[row, column] = layer.color[y, x] + (1 - alpha) * image[row, column]
                if alpha > 0.5:
                    top_layer[row, column] = order
    objects = [order for order in range(len(layers)) if order not in distractors]
    return image, [top_layer == order for order in objects]


def test_an_edge_over_the_same_color_shows_no_fringe() -> None:
    # Black lies under the transparent pixels: without premultiplied color it would leak.
    image = np.zeros((40, 40, 4), np.uint8)
    image[10:30, 10:30] = (200, 120, 40, 255)
    canvas = np.tile(np.array([200, 120, 40], np.float32), (90, 90, 1))
    layer = feather(transform(image, width=55.3, height=47.1, degrees=33.0), 1.0)
    lay_over(canvas, layer, 3, 5)
    assert np.allclose(canvas, [200, 120, 40], atol=0.1)


def test_an_unturned_cutout_of_its_own_size_stays_as_it_is() -> None:
    cutout = draw_cutout(1).image
    height, width = cutout.shape[:2]
    rgba = transform(cutout, width=width, height=height, degrees=0.0)
    assert np.allclose(rgba[2:-2, 2:-2, 3], cutout[..., 3], atol=0.5)
    assert rgba[:2].max() == 0


def test_too_many_objects_for_an_image_are_an_error(library: Library) -> None:
    options = replace(
        validation_options(),
        sizes=((32, 32),),
        objects=ObjectOptions(count=(6, 6), larger_side=(30, 30), min_visible_area=500),
    )
    with pytest.raises(DataError, match=r"placed \d of at least 6 objects.*ask for fewer"):
        Composition(library=library, options=options, seed=0).scene(0)
