# SPDX-License-Identifier: Apache-2.0
"""Results that stay in the memory of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.bundle import Manifest
    from foveate.runtime.devices import Device
    from foveate.runtime.steps import Steps


@dataclass(frozen=True, kw_only=True)
class DeviceDetections:
    """Detections of one image, as arrays in the memory of the GPU.

    The arrays are complete. On the device ``cuda`` they have ``__dlpack__`` and
    ``__cuda_array_interface__``; on ``pycuda`` they are ``GPUArray``. They are the buffers of
    their image, which serve another image once the last of them, and of the arrays made from them,
    is deleted. Before that, wait for your own work on it.

    Args:
        boxes: (N, 4) float32 xyxy, in pixels of the image, right and bottom exclusive.
        scores: (N,) float32, calibrated, best first.
        labels: (N,) int64 indices into ``class_names``.
        rows: (N,) int32 index of the window of each detection.
        windows: (K, 4) float32 x0, y0, width and height of each window, in pixels of the image.
        mask_logits: (K, S, S) mask logits of each window, float32 or float16 as in the bundle.
        class_names: Names of the classes.
        height: Rows of the image.
        width: Columns of the image.
    """

    boxes: Any
    scores: Any
    labels: Any
    rows: Any
    windows: Any
    mask_logits: Any
    class_names: tuple[str, ...]
    height: int
    width: int

    def __len__(self) -> int:
        """Return the number of detections."""
        return int(self.scores.shape[0])


class Occupied:
    """The use of a slot by arrays, which ends when the last reference to this object is dropped."""


def device_detections_of(
    device: Device, manifest: Manifest, steps: Steps, owner: Occupied
) -> DeviceDetections:
    """Return the detections of a processed image where they lie.

    Raises:
        OptionError: The device has no memory of its own.
    """
    found, proposals = steps.classifying.found, steps.proposing.found
    count = int(found.array("count")[0])
    return DeviceDetections(
        **{
            name: device.share(found.buffer(name).part(0, count), owner)
            for name in ("boxes", "scores", "labels", "rows")
        },
        windows=device.share(proposals.buffer("windows"), owner),
        mask_logits=device.share(steps.proposing.logits, owner),
        class_names=manifest.class_names,
        height=steps.sizes.height,
        width=steps.sizes.width,
    )
