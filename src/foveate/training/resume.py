# SPDX-License-Identifier: Apache-2.0
"""The file that an interrupted training goes on from."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateError, ModelError
from foveate.system.files import open_output
from foveate.training.origin import REMEDY, Origin


def weights_digest(network: nn.Module, without: str | None = None) -> str:
    """Return the first 12 digits of the SHA-256 of a network's weights, by which a start is known.

    Args:
        network: on any device.
        without: prefix of the names that do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if without is None or not name.startswith(without):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


class ResumeFile:
    """State of a training on disk, replaced in one step, so that there is always a whole one.

    Args:
        path: of the file.
        origin: all that decides what the training computes.
    """

    def __init__(self, path: Path, origin: Origin):
        self.path = path
        self.origin = origin

    def read(self) -> dict[str, Any] | None:
        """Read the state, its tensors on the CPU; None if there is none, or one of other inputs.

        Raises:
            ModelError: the file is damaged, is none of ours, or was made with other options.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            int(state["step"])
            current = self.origin.accepts(state["origin"], self.path)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(
                "the state of a training cannot be read: it is cut off or is another file",
                file=self.path,
                remedy=REMEDY,
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                "the file holds no state of a training", file=self.path, remedy=REMEDY
            ) from error
        return dict(state) if current else None

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Replace the file.

        Args:
            step: steps done.
            state: tensors and plain values, read back as they are.

        Raises:
            ModelError: it cannot be written; the file before stays.
        """
        try:
            with open_output(self.path) as file:
                torch.save({"step": step, "origin": self.origin.content(), **state}, file)
                file.flush()
                # Without this, a power cut may leave the new name with none of the new content.
                os.fsync(file.fileno())
        except (FoveateError, OSError, RuntimeError) as error:  # PyTorch has one of its own
            raise ModelError(
                f"the state of the training cannot be written after step {step} "
                f"({getattr(error, 'what', error)})",
                file=self.path,
                remedy="make room and start again: the run goes on from the last state",
            ) from error
