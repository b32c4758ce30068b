# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard shows of a training: losses, rate, speed, broken records, sample images."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from foveate.errors import MissingExtraError


class Board:
    """Writes the event files of one training; close it, or use it in a `with` statement.

    Args:
        directory: of the event files. What an interrupted run wrote beyond `first` is hidden.
        first: step that the training goes on from.
    """

    def __init__(self, directory: Path, first: int = 0):
        try:
            # This module is imported by all of training, which works without a board.
            tensorboard = import_module("torch.utils.tensorboard")
        except ModuleNotFoundError as error:
            raise MissingExtraError("tensorboard", "train") from error
        self._writer = tensorboard.SummaryWriter(str(directory), purge_step=first or None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by name, a slash in a name making groups."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Write a (H, W, 3) uint8 RGB image."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        """Write a text."""
        self._writer.add_text(name, text, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
