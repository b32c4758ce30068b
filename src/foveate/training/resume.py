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

from foveate.errors import ModelError

REMEDY = "delete it to start anew"


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
    """State of a training on disk, written aside and renamed, so that there is always a whole one.

    Args:
        path: of the file.
        options: all that decides what the training computes; a file made with others is refused.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]):
        self.path = path
        self.options = dict(options)

    def read(self) -> dict[str, Any] | None:
        """Read the state, its tensors on the CPU; None if there is no file.

        Raises:
            ModelError: the file is damaged, is none of ours, or was made with other options.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            found, _ = dict(state["options"]), int(state["step"])
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
        if found != self.options:
            raise ModelError(
                f"the checkpoint was made with {_difference(found, self.options)}",
                file=self.path,
                remedy=f"{REMEDY}, or go on with the same options",
            )
        return dict(state)

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Replace the file.

        Args:
            step: steps done.
            state: tensors and plain values, read back as they are.

        Raises:
            ModelError: it cannot be written; the file before stays.
        """
        aside = self.path.with_name(self.path.name + ".partial")
        try:
            with aside.open("wb") as file:
                torch.save({"step": step, "options": self.options, **state}, file)
                file.flush()
                # Without this, a power cut may leave the new name with none of the new content.
                os.fsync(file.fileno())
            aside.replace(self.path)
        except (OSError, RuntimeError) as error:  # PyTorch's writer has an error of its own
            aside.unlink(missing_ok=True)
            raise ModelError(
                f"the state of the training cannot be written after step {step} "
                f"({getattr(error, 'strerror', None) or error})",
                file=self.path,
                remedy="make room and start again: the run goes on from the last state",
            ) from error


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in names)
