# SPDX-License-Identifier: Apache-2.0
"""The images that a pipeline takes: one, or several in order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.runtime.devices.interop import SupportsCudaArray, SupportsDlpack

Image: TypeAlias = "Array | str | os.PathLike[str] | SupportsDlpack | SupportsCudaArray"
# Sequences of characters or bytes are not sequences of images.
_NO_SEQUENCES = (str, bytes, bytearray, memoryview)


def is_sequence(images: Image | Sequence[Image]) -> TypeGuard[Sequence[Image]]:
    """Return whether the argument is a list of images, or another sequence of them."""
    return isinstance(images, Sequence) and not isinstance(images, _NO_SEQUENCES)


def iterate(images: Iterable[Image]) -> Iterator[Image]:
    """Return an iterator over images.

    Raises:
        InputError: The argument is not an iterable of images.
    """
    single = isinstance(images, np.ndarray) and images.ndim != 4
    no_images = (*_NO_SEQUENCES, os.PathLike, Mapping)
    if single or isinstance(images, no_images) or not isinstance(images, Iterable):
        raise InputError(
            f"stream needs an iterable of images, found {type(images).__name__}",
            remedy="pass a list of images, or a generator of the frames of a video",
        )
    return iter(images)
