# SPDX-License-Identifier: Apache-2.0
"""The images of a benchmark."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.bench.record import Input
from foveate.errors import InputError
from foveate.images.reading import read_image
from foveate.runtime.sizes import Sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foveate.arrays import UInt8Array
    from foveate.bundle import Manifest

# The most that decoded images may take in memory.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of a benchmark, which are sent in turns.

    Args:
        files: Their files.
        arrays: Their pixels, (H, W, 3) uint8 RGB; empty if they are read in the run.
        inputs: Their descriptions.
    """

    files: tuple[Path, ...]
    arrays: tuple[UInt8Array, ...]
    inputs: tuple[Input, ...]


def read_images(files: Sequence[Path], manifest: Manifest | None, *, decoding: bool) -> Images:
    """Read the images of a benchmark, and describe them.

    Args:
        files: Their files.
        manifest: Manifest of the bundle, with the options of the pipeline applied; None if it is
            not known.
        decoding: Whether they are read again in the run, so that their pixels are not kept.

    Raises:
        InputError: An image cannot be read, or all together are too large to be kept.
    """
    arrays: list[UInt8Array] = []
    inputs = []
    total = 0
    for file in files:
        image = read_image(file)
        inputs.append(_describe(file, image, manifest))
        total += image.nbytes
        if not decoding:
            if total > _MOST_BYTES:
                raise InputError(
                    f"the pixels of the images take more than {_MOST_BYTES >> 30} GiB",
                    remedy="pass --decoding, which reads each image in the run, or fewer images",
                )
            arrays.append(image)
    return Images(files=tuple(files), arrays=tuple(arrays), inputs=tuple(inputs))


def _describe(file: Path, image: UInt8Array, manifest: Manifest | None) -> Input:
    height, width = image.shape[:2]
    sizes = None if manifest is None else Sizes.of(height, width, manifest)
    return Input(
        name=file.name,
        width=width,
        height=height,
        levels=None if sizes is None else len(sizes.levels),
        windows=None if sizes is None else sizes.windows,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
