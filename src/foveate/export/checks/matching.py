# SPDX-License-Identifier: Apache-2.0
"""Comparison of the detections and masks of an image between two implementations."""

from dataclasses import dataclass

import numpy as np

from foveate.arrays import Array, BoolArray, Float32Array, UInt8Array
from foveate.export.execution.sessions import Function
from foveate.kernels.mask_boxes import reference
from foveate.results.detections import Detections, Proposals
from foveate.results.window_masks import WindowMasks


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A detection that both implementations find: errors in pixels and score, IoU of the masks."""

    box_error: float
    mask_iou: float
    score_error: float


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Numbers of detections of the reference and the bundle, and the detections that both find."""

    expected: int
    found: int
    pairs: tuple[Pair, ...]


def match(expected: Detections | Proposals, found: Detections | Proposals) -> Matched:
    """Pair each result of the reference with the nearest free box of its class, best score first."""
    labels = [getattr(one, "labels", np.zeros(len(one), np.int64)) for one in (expected, found)]
    free = np.ones(len(found), bool)
    pairs = []
    # Stable, so that results of equal score keep their order.
    for index in np.argsort(-expected.scores, kind="stable"):
        choice = np.flatnonzero(free & (labels[1] == labels[0][index]))
        if not choice.size:
            continue
        errors = np.abs(found.boxes[choice] - expected.boxes[index]).max(axis=1)
        other = int(choice[errors.argmin()])
        free[other] = False
        pairs.append(
            Pair(
                box_error=float(errors.min()),
                mask_iou=_iou(expected.masks[int(index)], found.masks[other]),
                score_error=abs(float(expected.scores[index] - found.scores[other])),
            )
        )
    return Matched(expected=len(expected), found=len(found), pairs=tuple(pairs))


def _iou(one: BoolArray, other: BoolArray) -> float:
    # Two empty masks are equal.
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


NEAR = 2e-5
"""Distance from the threshold, as a share of a window's largest logit, below which a pixel may differ:
both implementations sum in float32, in different orders."""

_PIXELS_AT_ONCE = 1 << 22
"""Number of pixels of all windows per call; the function body makes float masks of them."""


@dataclass(frozen=True, kw_only=True)
class PasteComparison:
    """Comparison of the stage ``paste`` with the masks of the runtime, for an image.

    Args:
        windows: Number of windows, including one that is padding.
        pixels: Number of foreground pixels in either mask, over all windows.
        differing: Number of pixels that are foreground in one mask only.
        beyond: Number of differing pixels whose logit is farther than ``NEAR`` from the threshold.
        areas: Number of windows whose area is not the number of their bits.
        boxes: Number of windows whose box is not the tight box of their bits.
        misshapen: Number of windows with bits of another shape, which are not compared.
    """

    windows: int
    pixels: int
    differing: int
    beyond: int
    areas: int
    boxes: int
    misshapen: int

    def fault(self) -> str | None:
        """Return a description of the difference, or None."""
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


def compare_pasting(stage: Function, masks: WindowMasks, threshold: float) -> PasteComparison:
    """Compare the stage ``paste`` with the (N, H, W) masks of an image and one window of padding.

    A resampled pixel is foreground if its logit is above the threshold.
    """
    counts = dict.fromkeys(("pixels", "differing", "beyond", "areas", "boxes", "misshapen"), 0)
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
        for index, found in enumerate(rows, start=first):
            own = masks[index] if index < len(masks) else nothing
            window = _counts(found, own, logits[index], geometry[index], threshold)
            for name, count in window.items():
                counts[name] += count
    return PasteComparison(windows=len(masks) + 1, **counts)


def _counts(
    found: tuple[Array, Array, Array],
    own: BoolArray,
    logits: Float32Array,
    geometry: Float32Array,
    threshold: float,
) -> dict[str, int]:
    """Compare bits, area and box of a window with the mask of the runtime."""
    words, area, box = found
    octets: UInt8Array = np.ascontiguousarray(words).view(np.uint8)
    height, width = own.shape
    if octets.shape != (height, 4 * -(-width // 32)):
        return {"misshapen": 1}
    bits = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
    mask = bits[:, :width]
    differs = mask != own
    counts = {
        "pixels": int((mask | own).sum()),
        "differing": int(differs.sum()),
        # Bits beyond the last column are not pixels and have to be 0.
        "beyond": int(bits[:, width:].sum()),
        "areas": int(area != mask.sum()),
        "boxes": int(tuple(box) != reference.tight_box(mask)),
    }
    if differs.any():
        # In float64, so that a pixel is clearly on one side of the threshold or near it.
        _, values = reference.paste(logits, geometry.tolist(), threshold, height, width)
        far = np.abs(values - threshold) > NEAR * np.abs(logits).max()
        counts["beyond"] += int((differs & far).sum())
    return counts
