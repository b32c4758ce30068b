# SPDX-License-Identifier: Apache-2.0
"""The three systems as PyTorch modules, built by name."""

from foveate.models.build import BUILDERS, build
from foveate.models.deepmask import DeepMask
from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask

__all__ = ["BUILDERS", "DeepMask", "EfficientNetLite0", "MultiPathNet", "SharpMask", "build"]
