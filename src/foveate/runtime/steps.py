# SPDX-License-Identifier: Apache-2.0
"""The steps from an image to its results, in the order in which they are enqueued.

::

    image ─ resize ─┬─ letterbox ─ propose ─┬─ select ─ crop ─ refine ─ mask_boxes ─ nms ─┐
                    │   (each level, the    │                                             │
                    │    largest first)     │ maps of a level                             │
                    └─ letterbox ───────────┴─ features ───────────────── classify ─ postprocess

The features are computed from the maps of a level or, by a trunk of the classifier's own, from the image.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from foveate.kernels.letterbox.op import RESIZE
from foveate.kernels.take_masks.op import TAKE_MASKS
from foveate.runtime.classifying import Classifying
from foveate.runtime.proposing import Proposing
from foveate.runtime.setup import BYTE

if TYPE_CHECKING:
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes


class Steps:
    """The steps for images of the same sizes, and their memory.

    All shapes follow from the size of the image and from K, the number of windows. The number of
    those that exist is available on the device only, so that nothing waits for it.

    Args:
        setup: What all slots of the pipeline have in common.
        sizes: Sizes of the images.

    Attributes:
        sizes: Sizes of the images.
        main: Stream that carries the chain from the image to its results.
        side: Stream that carries the features of detection, beside the refinement of proposals; the
            main one on the CPU.
        image: (H, W, 3) uint8 RGB.
        proposing: The steps to proposals.
        masks: (K, S, S) mask logits, on the CPU, of the windows that the results use.
    """

    def __init__(self, setup: Setup, sizes: Sizes) -> None:
        self.sizes = sizes
        self._setup = setup
        self.main: Stream = setup.device.stream()
        # The networks of the CPU run one at a time, so that a second stream would only wake a thread.
        is_cpu = setup.device.name == "cpu"
        self.side: Stream = self.main if is_cpu else setup.device.stream()
        self.image = setup.device.mirror((sizes.height, sizes.width, 3), BYTE)
        self._working: Buffer = self.image.buffer
        working = (sizes.working_height, sizes.working_width, 3)
        if working != self._working.shape:
            self._working = setup.device.allocate(working, BYTE)
        self.proposing = Proposing(setup, sizes, self._working, self.main)
        logits = self.proposing.logits
        self.masks = setup.device.mapped(logits.shape, logits.dtype)

    @cached_property
    def classifying(self) -> Classifying:
        """The steps to detections, whose memory is allocated when it is first needed."""
        working = self._working
        return Classifying(self._setup, self.sizes, working, self.proposing, self.main, self.side)

    def enqueue_proposals(self) -> None:
        """Enqueue the steps to proposals, on the main stream."""
        self._resize()
        self.proposing.enqueue()
        self._take_masks(None, self.proposing.found.buffer("count"))
        self.proposing.found.fetch(self.main)

    def enqueue_detections(self, *, all_masks: bool = False) -> None:
        """Enqueue the steps to detections, on the main and the side stream.

        Args:
            all_masks: Whether the masks of all proposals are copied, or those of detections only.
        """
        found, features = self.classifying.found, self.classifying.features
        self._resize()
        level = features.sizes.level
        if level is None:
            features.enqueue(self.main)
            self.proposing.enqueue()
        else:
            self.proposing.enqueue({level: features.enqueue})
        self.classifying.enqueue()
        if all_masks:
            self._take_masks(None, self.proposing.found.buffer("count"))
        else:
            self._take_masks(found.buffer("rows"), found.buffer("count"))
        self.proposing.found.fetch(self.main)
        found.fetch(self.main)

    def _resize(self) -> None:
        """Scale the image to working size."""
        image = self.image.buffer
        if self._working is not image:
            self._setup.device.launch(RESIZE, self.main, image, self._working)

    def _take_masks(self, rows: Buffer | None, count: Buffer) -> None:
        """Copy the logits of the windows in use to the CPU."""
        self._setup.device.launch(
            TAKE_MASKS, self.main, self.proposing.logits, rows, count, self.masks.buffer
        )
