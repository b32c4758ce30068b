# SPDX-License-Identifier: Apache-2.0
"""What all slots of a pipeline have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foveate.kernels.letterbox.op import LETTERBOX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.bundle.manifest import Manifest, TensorSpec
    from foveate.runtime.devices import Buffer, Device, Stream
    from foveate.runtime.engines import Engine
    from foveate.runtime.sizes import FeaturesSizes, LevelSizes

BYTE, INT = np.dtype(np.uint8), np.dtype(np.int32)
LONG, FLOAT = np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all slots of a pipeline have in common.

    Args:
        device: Device that runs the operations between the engines.
        engines: Engine of each stage.
        manifest: Manifest of the bundle, with the options of the pipeline applied.
        score_threshold: Smallest score of a detection.
        parallel_levels: Whether the levels of the pyramid may run at the same time.
    """

    device: Device
    engines: Mapping[str, Engine]
    manifest: Manifest
    score_threshold: float
    parallel_levels: bool = False

    def tensor(self, spec: TensorSpec, *shape: int) -> Buffer:
        """Allocate memory for an input or output of an engine."""
        return self.device.allocate(shape, np.dtype(spec.dtype))

    def image_canvas(self, stage: str, sizes: LevelSizes | FeaturesSizes) -> Buffer:
        """Allocate the input of a stage that reads an image: (1, 3, rows, columns)."""
        (spec,) = self.manifest.stages[stage].inputs
        return self.tensor(spec, 1, 3, sizes.canvas_height, sizes.canvas_width)

    def output(self, stage: str, name: str) -> TensorSpec:
        """Return an output of a stage by its name."""
        return next(one for one in self.manifest.stages[stage].outputs if one.name == name)

    def letterbox(
        self,
        stream: Stream,
        image: Buffer,
        canvases: list[Buffer],
        sizes: tuple[LevelSizes, ...] | tuple[FeaturesSizes],
        *,
        border: int,
    ) -> None:
        """Enqueue the scaling of an image (h, w, 3) uint8 RGB into canvases (1, 3, rows, columns)."""
        numbers = self.manifest.preprocessing
        self.device.launch(
            LETTERBOX,
            stream,
            image,
            canvases,
            sizes=tuple((one.height, one.width) for one in sizes),
            border=border,
            mean=numbers.mean,
            std=numbers.std,
            fill=numbers.fill,
        )


def channels_of(spec: TensorSpec) -> int:
    """Return the number of channels of a map."""
    channels = spec.shape[1]
    assert isinstance(channels, int), f"the channels of {spec.name} vary"
    return channels
