# SPDX-License-Identifier: Apache-2.0
"""Options of composed data sets.

There are two presets: `training_options`, with wide ranges, strong changes of light, and shapes
that belong to no class; and `validation_options`, with narrow ranges, so that figures measured on
the images depend on the network rather than on the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from foveate.errors import OptionError
from foveate.typed_options import TypedOptions

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LightOptions(TypedOptions):
    """The largest changes of light and color, up or down; each is drawn uniformly.

    Args:
        brightness: Added to every channel, as a share of 255.
        contrast: Factor about middle gray, minus 1.
        gamma: Logarithm of the exponent.
        temperature: Logarithm of the ratio of red to blue.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    temperature: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(TypedOptions):
    """Settings by which cut-outs become objects.

    Args:
        count: Smallest and largest number of objects per image.
        larger_side: Range of an object's larger side in pixels, drawn log-uniformly.
        enlargement: Largest factor by which a cut-out grows; its larger side may be shorter then.
        rotation: Range of the rotation in degrees, plus and minus.
        upside_down: Share of objects that are turned by any angle.
        stretch: Logarithm of the largest change of the aspect.
        flip: Share of objects that are mirrored.
        cut_by_edge: Share of objects whose center may lie anywhere, so that the edge cuts them.
        large_first: Share of images whose larger objects lie behind the smaller ones.
        min_visible_area: Least number of visible pixels of every object.
        min_visible_share: The same, as a share of the object's area inside the image.
        light: Change of light of each object.
        match: Largest share by which an object's brightness moves towards its surroundings'.
        blur: Share of objects that are blurred, and the largest sigma in pixels.
        feather: Largest sigma, in pixels, by which an alpha edge is softened inwards.
        shadow: Share of objects that cast a soft shadow on what lies behind them.
    """

    count: tuple[int, int] = (2, 6)
    larger_side: Range = (45.0, 340.0)
    enlargement: float = 3.0
    rotation: float = 10.0
    upside_down: float = 0.0
    stretch: float = 0.0
    flip: float = 0.5
    cut_by_edge: float = 0.0
    large_first: float = 0.5
    min_visible_area: int = 150
    min_visible_share: float = 0.3
    light: LightOptions = field(default_factory=LightOptions)
    match: float = 0.0
    blur: Range = (0.0, 0.0)
    feather: float = 0.7
    shadow: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.count
        if not 1 <= low <= high:
            raise OptionError(
                f"the number of objects per image must be a range from 1 on, found {low}..{high}"
            )
        if not 0 < self.larger_side[0] <= self.larger_side[1]:
            raise OptionError(
                "the larger side must be a range of positive pixels, found "
                f"{self.larger_side[0]:g}..{self.larger_side[1]:g}"
            )


@dataclass(frozen=True, kw_only=True)
class BackgroundOptions(TypedOptions):
    """Settings by which images become backgrounds.

    Args:
        crop: Range of a crop's size, as a share of the largest one that fits.
        flip: Share that is mirrored.
        blend: Share of images whose background is two of them, joined along a soft wavy line.
        blur: Share that is blurred, and the largest sigma in pixels.
        light: Change of light.
    """

    crop: Range = (0.5, 1.0)
    flip: float = 0.5
    blend: float = 0.0
    blur: Range = (0.0, 0.0)
    light: LightOptions = field(default_factory=LightOptions)


@dataclass(frozen=True, kw_only=True)
class DistractorOptions(TypedOptions):
    """Patches of other backgrounds: outlined shapes that belong to no class.

    Args:
        share: Share of images that have some.
        count: Most patches in such an image.
        larger_side: Range of a patch's larger side in pixels, drawn log-uniformly.
        in_front: Share of patches that lie in front of the objects and hide a part of them.
    """

    share: float = 0.0
    count: int = 3
    larger_side: Range = (30.0, 260.0)
    in_front: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FinishOptions(TypedOptions):
    """Settings of the last changes to the whole image.

    Args:
        blur: Share of images that are blurred, and the largest sigma in pixels.
        noise: Share of images with sensor noise, and its largest sigma in gray levels.
        recompress: Share of images that were a JPEG file before, of quality 40 to 90.
        light: Change of light.
    """

    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    recompress: float = 0.0
    light: LightOptions = field(default_factory=LightOptions)


@dataclass(frozen=True, kw_only=True)
class ComposeOptions(TypedOptions):
    """Options of the images of a data set.

    Args:
        sizes: (width, height) of images, in pixels; one is drawn for each image.
        objects: The annotated objects.
        backgrounds: Settings of the backgrounds.
        distractors: Settings of shapes that are not annotated.
        finish: Settings of the last changes to the whole image.
    """

    sizes: tuple[tuple[int, int], ...] = ((640, 480),)
    objects: ObjectOptions = field(default_factory=ObjectOptions)
    backgrounds: BackgroundOptions = field(default_factory=BackgroundOptions)
    distractors: DistractorOptions = field(default_factory=DistractorOptions)
    finish: FinishOptions = field(default_factory=FinishOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes or any(min(size) < 16 for size in self.sizes):
            raise OptionError(
                f"images need at least one size of 16 x 16 pixels or more, found {self.sizes}"
            )


@dataclass(frozen=True, kw_only=True)
class PasteOptions(TypedOptions):
    """Settings by which objects of photographs are pasted on other photographs.

    Args:
        share: Share of images on which something is pasted.
        objects: Number of pasted objects in such an image, and their changes; the change of light
            and the share of mirrored ones also hold for the photographs.
        smallest_side: Pixels of the larger side from which on an object is cut out.
        finish: Settings of the last changes to the whole image.
    """

    share: float = 0.7
    objects: ObjectOptions = field(
        default_factory=lambda: ObjectOptions(
            count=(1, 4),
            larger_side=(24.0, 360.0),
            enlargement=1.5,
            rotation=12.0,
            stretch=0.15,
            min_visible_area=100,
            min_visible_share=0.4,
            light=LightOptions(brightness=0.06, contrast=0.15, gamma=0.2, temperature=0.12),
            feather=0.8,
        )
    )
    smallest_side: int = 32
    finish: FinishOptions = field(
        default_factory=lambda: FinishOptions(
            blur=(0.1, 0.8), noise=(0.2, 4.0), recompress=0.2, light=LightOptions()
        )
    )


def training_options() -> ComposeOptions:
    """Return wide and rough ranges, for training."""
    light = LightOptions(brightness=0.12, contrast=0.25, gamma=0.3, temperature=0.18)
    return ComposeOptions(
        sizes=((640, 480), (640, 480), (640, 480), (480, 640), (640, 427), (640, 360)),
        objects=ObjectOptions(
            count=(1, 7),
            larger_side=(30.0, 900.0),
            enlargement=4.0,
            rotation=20.0,
            upside_down=0.05,
            stretch=0.18,
            cut_by_edge=0.2,
            large_first=0.7,
            min_visible_area=100,
            min_visible_share=0.25,
            light=light,
            match=0.5,
            blur=(0.2, 1.6),
            feather=1.2,
            shadow=0.3,
        ),
        backgrounds=BackgroundOptions(crop=(0.25, 1.0), blend=0.25, blur=(0.25, 3.0), light=light),
        distractors=DistractorOptions(share=0.4),
        finish=FinishOptions(
            blur=(0.15, 1.2),
            noise=(0.4, 8.0),
            recompress=0.35,
            light=LightOptions(brightness=0.06, contrast=0.1, gamma=0.12, temperature=0.1),
        ),
    )


def validation_options() -> ComposeOptions:
    """Return narrow and mild ranges: 640 x 480, 2 to 6 objects of 45 to 340 pixels."""
    light = LightOptions(brightness=0.05, contrast=0.1, gamma=0.12, temperature=0.08)
    return ComposeOptions(
        objects=ObjectOptions(light=light, match=0.2, blur=(0.1, 0.8)),
        backgrounds=BackgroundOptions(light=light, blur=(0.1, 1.5)),
        finish=FinishOptions(noise=(0.25, 4.0)),
    )


def options_from_json(values: Mapping[str, Any]) -> ComposeOptions:
    """Return options from nested dictionaries and lists, as JSON has them.

    Raises:
        OptionError: A name is unknown.
    """
    parts: dict[str, Any] = {
        "objects": ObjectOptions,
        "backgrounds": BackgroundOptions,
        "distractors": DistractorOptions,
        "finish": FinishOptions,
        "light": LightOptions,
    }

    def build(kind: Any, found: Mapping[str, Any]) -> Any:
        known = {item.name for item in fields(kind)}
        unknown = sorted(set(found) - known)
        if unknown:
            raise OptionError(
                f"unknown option {unknown[0]!r} of {kind.__name__}",
                remedy=f"known are {', '.join(sorted(known))}",
            )
        return kind(
            **{
                name: build(parts[name], value) if name in parts else value
                for name, value in found.items()
            }
        )

    result: ComposeOptions = build(ComposeOptions, values)
    return result
