# SPDX-License-Identifier: Apache-2.0
"""Does the stage `paste` make the bits that the runtime's own masks have?

Both are exact but for float32 sums in another order, so a pixel may differ where its logit lies at
the threshold, and nowhere else. A float64 reference says where that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foveate.arrays import BoolArray, Float32Array, UInt8Array
from foveate.export.execution.sessions import Function
from foveate.kernels.mask_boxes import reference
from foveate.results.masks import Masks

NEAR = 2e-5
"""Share of a window's largest logit: closer to the threshold, float32 may decide otherwise."""

_PIXELS_AT_ONCE = 1 << 22
"""Pixels of all windows of a call: the body makes float masks of them, several at a time."""


@dataclass(frozen=True, kw_only=True)
class Pasted:
    """The stage beside the runtime's own masks, on the proposals of an image.

    Attributes:
        windows: that were pasted, with one that is padding.
        pixels: foreground of either, over all windows.
        differing: pixels of these that are foreground of one only.
        beyond: of the differing pixels, those whose logit is farther than `NEAR` from the threshold.
        areas: windows whose area is not the number of their bits.
        boxes: windows whose box is not the tight one of their bits.
        misshapen: windows whose bits have another shape; these are not compared.
    """

    windows: int
    pixels: int
    differing: int
    beyond: int
    areas: int
    boxes: int
    misshapen: int

    def fault(self) -> str | None:
        """Say what is wrong; None if nothing is."""
        if self.misshapen:
            return f"the bits of {self.misshapen} of {self.windows} windows have another shape"
        if self.beyond:
            return (
                f"{self.beyond} of {self.pixels} pixels are on the other side of the threshold, "
                f"farther from it than {NEAR:.0e} of the largest logit"
            )
        for name, count in (("areas", self.areas), ("boxes", self.boxes)):
            if count:
                return f"the {name} of {count} of {self.windows} windows are not those of the bits"
        return None


def paste_parity(stage: Function, masks: Masks, threshold: float) -> Pasted:
    """Paste the windows of an image's masks by both, and one window that is padding.

    Args:
        stage: `paste` of the bundle.
        masks: of an image, (N, H, W).
        threshold: a pixel is foreground if its resampled logit is larger.
    """
    counts = dict.fromkeys(("pixels", "differing", "beyond", "areas", "boxes", "misshapen"), 0)
    for found, own, logits, geometry in _pasted(stage, masks, threshold):
        for name, count in _counts(found, own, logits, geometry, threshold).items():
            counts[name] += count
    return Pasted(windows=len(masks) + 1, **counts)


def _pasted(
    stage: Function, masks: Masks, threshold: float
) -> Iterator[tuple[tuple[UInt8Array, int, Float32Array], BoolArray, Float32Array, Float32Array]]:
    """Yield bytes (H, B), area and box by the stage, the runtime's mask, and logits and geometry."""
    _, height, width = masks.shape
    logits, geometry = masks.windows()
    side = logits.shape[-1]
    logits = np.concatenate([logits, np.full((1, side, side), threshold + 1, np.float32)])
    geometry = np.concatenate([geometry, np.zeros((1, 4), np.float32)])
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    nothing: BoolArray = np.zeros((height, width), bool)
    for first in range(0, len(logits), step):
        some = slice(first, first + step)
        size = np.array([height, width])
        outputs = stage({"logits": logits[some], "geometry": geometry[some], "size": size})
        rows = zip(*(outputs[name] for name in ("bits", "areas", "boxes")), strict=True)
        for index, (bits, area, box) in enumerate(rows, start=first):
            own = masks[index] if index < len(masks) else nothing
            octets: UInt8Array = np.ascontiguousarray(bits).view(np.uint8)
            yield (octets, int(area), box), own, logits[index], geometry[index]


def _counts(
    found: tuple[UInt8Array, int, Float32Array],
    own: BoolArray,
    logits: Float32Array,
    geometry: Float32Array,
    threshold: float,
) -> dict[str, int]:
    octets, area, box = found
    height, width = own.shape
    if octets.shape != (height, 4 * -(-width // 32)):
        return {"misshapen": 1}
    bits = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
    mask = bits[:, :width]
    differs = mask != own
    counts = {
        "pixels": int((mask | own).sum()),
        "differing": int(differs.sum()),
        # Bits after the last column are no pixels, and have to be 0.
        "beyond": int(bits[:, width:].sum()),
        "areas": int(area != mask.sum()),
        "boxes": int(tuple(box) != reference.tight_box(mask)),
    }
    if differs.any():
        far = _far(logits, geometry, threshold, own.shape)
        counts["beyond"] += int((differs & far).sum())
    return counts


def _far(
    logits: Float32Array, geometry: Float32Array, threshold: float, shape: tuple[int, ...]
) -> BoolArray:
    """Pixels whose logit in float64 is clearly on one side of the threshold; also those outside."""
    _, values = reference.paste(logits, geometry.tolist(), threshold, shape[0], shape[1])
    far: BoolArray = np.abs(values - threshold) > NEAR * np.abs(logits).max()
    return far
