# SPDX-License-Identifier: Apache-2.0
"""One composed image and its true masks.

An object's mask is where its own alpha is above one half, minus what objects and distractors laid
over it later hide in the same sense.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compose.layer import Layer, cast_shadow, draw_layer, lay_over, overlap
from compose.library import Cutout, Library
from compose.lists import Entry
from compose.options import ComposeOptions, ObjectOptions
from compose.photometric import finish
from compose.scenery import draw_background, draw_distractors
from foveate.errors import DataError

_TRIES = 12  # places tried for an object before it is given up
_ROUNDS = 40  # objects tried before an image with too few is given up
_MIN_ALPHA = 0.5


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An object of an image.

    Args:
        entry: Entry of the cut-out that it is made from.
        category_id: Category id of its class, from 1.
        mask: (H, W) bool, what is visible of it.
        crowd: Whether these are several objects that nobody separated.
    """

    entry: Entry
    category_id: int
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A composed image.

    Args:
        image: (H, W, 3) uint8 RGB.
        objects: Objects from the rearmost to the foremost.
        background: Entry of the image behind the objects.
    """

    image: NDArray[np.uint8]
    objects: tuple[Placed, ...]
    background: Entry


class _Canvas:
    """An unfinished image, and the object of each of its pixels."""

    def __init__(self, image: NDArray[np.float32], options: ObjectOptions) -> None:
        self.image = image
        self.owner = np.full(image.shape[:2], -1, np.int16)
        self.full_areas: list[int] = []
        self.things: list[tuple[Cutout, int]] = []
        self._options = options

    def fits(self, layer: Layer, left: int, top: int, *, is_object: bool) -> bool:
        """Return whether enough of the layer, and of everything that it would hide, is visible."""
        meeting = overlap(layer.alpha.shape, left, top, self.owner.shape)
        if meeting is None:
            return False
        covered = layer.alpha[meeting[0]] > _MIN_ALPHA
        if is_object and np.count_nonzero(covered) < self._options.min_visible_area:
            return False
        hidden = np.bincount(
            self.owner[meeting[1]][covered] + 1, minlength=len(self.full_areas) + 1
        )
        visible = np.bincount(self.owner.ravel() + 1, minlength=len(self.full_areas) + 1) - hidden
        share = self._options.min_visible_share
        return all(
            left_over >= max(self._options.min_visible_area, share * full)
            for left_over, full in zip(visible[1:], self.full_areas, strict=True)
        )

    def add(self, layer: Layer, left: int, top: int, thing: tuple[Cutout, int] | None) -> None:
        """Lay the layer over the image; one without a thing is a distractor."""
        lay_over(self.image, layer, left, top)
        meeting = overlap(layer.alpha.shape, left, top, self.owner.shape)
        if meeting is None:
            return
        covered = layer.alpha[meeting[0]] > _MIN_ALPHA
        self.owner[meeting[1]][covered] = -1 if thing is None else len(self.things)
        if thing is not None:
            self.things.append(thing)
            self.full_areas.append(int(np.count_nonzero(covered)))

    def place(self, layer: Layer, rng: np.random.Generator) -> tuple[int, int]:
        """Draw column and row of a layer: inside if it fits and should not be cut."""
        inside = bool(rng.uniform() >= self._options.cut_by_edge)
        height, width = layer.alpha.shape
        rows, columns = self.image.shape[:2]
        left = _position(width, columns, rng, inside=inside)
        return left, _position(height, rows, rng, inside=inside)


def _position(length: int, room: int, rng: np.random.Generator, *, inside: bool) -> int:
    if inside and length <= room:
        return int(rng.integers(0, room - length + 1))
    return int(rng.integers(0, room)) - length // 2


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The images that are composed of a library: ``Scenes``.

    Args:
        library: Cut-outs and backgrounds.
        options: Settings of the composition.
        seed: Seed of every draw.
    """

    library: Library
    options: ComposeOptions
    seed: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of category ids, which start at 1."""
        return self.library.class_names

    @property
    def info(self) -> dict[str, Any]:
        """What determines the images, apart from the library."""
        return {"seed": self.seed, "options": asdict(self.options)}

    def scene(self, index: int) -> Scene:
        """Compose an image; the same index gives the same bits, whatever was composed before.

        Raises:
            DataError: The fewest objects asked for cannot be placed.
        """
        library, options = self.library, self.options
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        size = options.sizes[rng.integers(len(options.sizes))]
        image, background = draw_background(library, size, options, rng)
        canvas = _Canvas(image, options.objects)
        distractors = draw_distractors(library, options, rng)
        _scatter(canvas, [layer for layer, in_front in distractors if not in_front], rng)
        _add_objects(canvas, library, options.objects, rng)
        _scatter(canvas, [layer for layer, in_front in distractors if in_front], rng)
        return Scene(
            image=finish(canvas.image, options.finish, rng),
            objects=tuple(
                Placed(entry=cutout.entry, category_id=category_id, mask=canvas.owner == number)
                for number, (cutout, category_id) in enumerate(canvas.things)
            ),
            background=background.entry,
        )


def _add_objects(
    canvas: _Canvas, library: Library, options: ObjectOptions, rng: np.random.Generator
) -> None:
    fewest, most = options.count
    wanted = int(rng.integers(fewest, most + 1))
    sides = _draw_sides(options, wanted, rng)
    if rng.uniform() < options.large_first:
        sides = np.sort(sides)[::-1]
    for side in sides:
        _try_object(canvas, library, options, side, rng)
    for _ in range(_ROUNDS):
        if len(canvas.things) >= fewest:
            return
        _try_object(canvas, library, options, _draw_sides(options, 1, rng)[0], rng)
    raise DataError(
        f"placed {len(canvas.things)} of at least {fewest} objects after {_ROUNDS} more tries",
        remedy="ask for fewer or smaller objects, or for a smaller visible area",
    )


def _draw_sides(
    options: ObjectOptions, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    low, high = options.larger_side
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _try_object(
    canvas: _Canvas, library: Library, options: ObjectOptions, side: float, rng: np.random.Generator
) -> None:
    filled = [number for number, families in enumerate(library.cutouts) if families]
    number = filled[rng.integers(len(filled))]
    family = library.cutouts[number][rng.integers(len(library.cutouts[number]))]
    cutout = family[rng.integers(len(family))]
    layer = draw_layer(cutout, side, options, rng)
    shadowed, share = rng.uniform(size=2)
    for _ in range(_TRIES):
        left, top = canvas.place(layer, rng)
        if canvas.fits(layer, left, top, is_object=True):
            layer = _match(layer, canvas.image, left, top, options.match * share)
            if shadowed < options.shadow:
                cast_shadow(canvas.image, layer, left, top, rng)
            canvas.add(layer, left, top, (cutout, number + 1))
            return


def _match(layer: Layer, image: NDArray[np.float32], left: int, top: int, share: float) -> Layer:
    """Move a layer's brightness towards that of what it is laid on, by a factor of 2 at most."""
    meeting = overlap(layer.alpha.shape, left, top, image.shape)
    if meeting is None or share <= 0:
        return layer
    own, target = meeting
    weight = layer.alpha[own]
    mine = layer.color[own].mean(axis=2).sum()
    theirs = (weight * image[target].mean(axis=2)).sum()
    if mine <= 0 or theirs <= 0:
        return layer
    factor = np.float32(np.clip((theirs / mine) ** share, 0.5, 2.0))
    limit = 255 * layer.alpha[..., None]
    return Layer(color=np.minimum(factor * layer.color, limit), alpha=layer.alpha)


def _scatter(canvas: _Canvas, layers: list[Layer], rng: np.random.Generator) -> None:
    """Lay distractors over the image wherever they leave enough of every object."""
    for layer in layers:
        for _ in range(_TRIES):
            left, top = canvas.place(layer, rng)
            if canvas.fits(layer, left, top, is_object=False):
                canvas.add(layer, left, top, None)
                break
