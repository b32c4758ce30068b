# SPDX-License-Identifier: Apache-2.0
"""The slots of a pipeline: which are free, and when one is made or released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.errors import OutOfMemoryError
from foveate.runtime.engines.engine import NoPlanError
from foveate.runtime.slot import Slot

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.runtime.devices.interop import GpuImage
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes
    from foveate.runtime.slot import Kind

_MOST_SPARE = 16  # slots, so that images of ever changing sizes do not fill a large GPU


class Slots:
    """The slots of a pipeline. The caller holds a lock during each call.

    Free slots are kept for the next image of the same sizes, ``most`` of them on the CPU, and more
    on a GPU, which takes long to prepare a slot. Those that were used least recently are released
    first: before another one is made on the CPU, and on a GPU when its memory does not suffice.

    Args:
        setup: What all slots of the pipeline have in common.
        most: Number of images in flight.

    Attributes:
        in_use: Number of slots that were started and not given back.
        most_in_flight: Largest number of images of a stream in flight; it becomes smaller where memory
            does not suffice.
    """

    def __init__(self, setup: Setup, most: int) -> None:
        self.in_use = 0
        self.most_in_flight = most
        self._setup = setup
        self._is_cpu = setup.device.name == "cpu"
        self._most = most if self._is_cpu else max(most, _MOST_SPARE)
        self._free: list[Slot] = []  # the most recently used one is last

    def start(self, image: UInt8Array | GpuImage, kind: Kind, sizes: Sizes) -> Slot:
        """Enqueue all work for an image of these sizes in a free slot, or in a new one.

        Raises:
            OutOfMemoryError: There is not enough memory for another slot.
            BackendError: The engines were compiled for other sizes; the text has the command that
                compiles them for these.
        """
        while True:
            try:
                slot = self._started(image, kind, sizes)
            except NoPlanError as error:
                k = min(self._setup.manifest.select.top_k, sizes.windows)
                raise error.for_image(sizes, k) from error
            except OutOfMemoryError:
                if not self._free:
                    raise
            else:
                self.in_use += 1
                return slot
            del self._free[0]  # here, where the memory of the slot that failed is free again

    def give_back(self, slot: Slot | None) -> None:
        """End the use of a slot; ``None`` stands for one that failed and is not used again."""
        self.in_use -= 1
        if slot is not None and len(self._free) < self._most:
            self._free.append(slot)

    def release(self) -> None:
        """Release all free slots."""
        self._free.clear()

    def _started(self, image: UInt8Array | GpuImage, kind: Kind, sizes: Sizes) -> Slot:
        index = next((i for i, slot in enumerate(self._free) if slot.sizes == sizes), None)
        if index is not None:
            slot = self._free.pop(index)
        else:
            if self._is_cpu:
                del self._free[:1]
            slot = Slot(self._setup, sizes)
        slot.start(image, kind)
        return slot
