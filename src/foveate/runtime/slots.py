# SPDX-License-Identifier: Apache-2.0
"""The slots of a pipeline: which are free, and when one is made or released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.errors import OutOfMemoryError
from foveate.runtime.engines.engine import NoPlanError
from foveate.runtime.prediction import slot_bytes
from foveate.runtime.slot import Slot

if TYPE_CHECKING:
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes


_MOST_SPARE = 16  # slots, so that images of ever changing sizes do not fill a large GPU


class Slots:
    """The slots of a pipeline. The caller holds a lock during each call.

    Free slots are kept for the next image of the same sizes, ``most`` of them on the CPU. A GPU,
    which takes long to prepare a slot, keeps more if it has memory to spare. Those that were used
    least recently are released first.

    Args:
        setup: What all slots of the pipeline have in common.
        most: Number of images in flight.

    Attributes:
        in_use: Number of slots that were taken and not given back.
    """

    def __init__(self, setup: Setup, most: int) -> None:
        self.in_use = 0
        self._setup = setup
        self._most = most if setup.device.spare_bytes() is None else max(most, _MOST_SPARE)
        self._free: list[Slot] = []  # the most recently used one is last

    def take(self, sizes: Sizes) -> Slot:
        """Return a free slot for these sizes, or make one.

        Raises:
            OutOfMemoryError: There is not enough memory for another slot.
            BackendError: The engines were compiled for other sizes; the text has the command that
                compiles them for these.
        """
        index = next((i for i, slot in enumerate(self._free) if slot.sizes == sizes), None)
        try:
            slot = self._make(sizes) if index is None else self._free.pop(index)
        except NoPlanError as error:
            k = min(self._setup.manifest.select.top_k, sizes.windows)
            raise error.for_image(sizes, k) from error
        self.in_use += 1
        return slot

    def give_back(self, slot: Slot | None) -> None:
        """End the use of a slot; ``None`` stands for one that failed and is not used again."""
        self.in_use -= 1
        if slot is not None and len(self._free) < self._most:
            self._free.append(slot)

    def release(self) -> None:
        """Release all free slots."""
        self._free.clear()

    def _make(self, sizes: Sizes) -> Slot:
        self._make_room(sizes)
        try:
            return Slot(self._setup, sizes)
        except OutOfMemoryError:
            if not self._free:
                raise
            self._free.clear()
        return Slot(self._setup, sizes)

    def _make_room(self, sizes: Sizes) -> None:
        """Release free slots before a new one takes memory."""
        spare_bytes = self._setup.device.spare_bytes
        if spare_bytes() is None:
            del self._free[:1]
            return
        need = slot_bytes(self._setup, sizes)
        while self._free and need > (spare_bytes() or 0):
            del self._free[0]
        free = spare_bytes() or 0
        if need > free and self.in_use:  # the caller can wait for one that is in use
            raise OutOfMemoryError(
                f"an image of this size takes {need / 1e6:.0f} MB of the device, "
                f"{free / 1e6:.0f} MB are free",
                remedy="use a smaller image, top_k, max_side or max_in_flight",
            )
