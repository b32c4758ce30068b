# SPDX-License-Identifier: Apache-2.0
"""DeepMask as foolwood/deepmask-pytorch names it.

Its trunk is torchvision's ResNet-50 in a Sequential, with a padding module in front of each
convolution that pads. For one pixel that is PyTorch's reflection, which leaves the edge out.
"""

from __future__ import annotations

import re
from collections import Counter

from foveate.errors import ModelError
from foveate.importing.found import Found, State
from foveate.importing.torchvision_trunks import frozen_names

RENAMED = (
    (r"trunk\.0\.0\.1\.", "conv1."),
    (r"trunk\.0\.1\.", "bn1."),
    (r"trunk\.0\.4\.", "layer1."),
    (r"trunk\.0\.5\.", "layer2."),
    (r"trunk\.0\.6\.", "layer3."),
    (r"trunk\.1\.0\.", "neck."),
    (r"trunk\.1\.2\.", "embed."),
    (r"maskBranch(?:DM)?\.(?:0\.)?0\.", "mask."),
    (r"scoreBranch\.([14])\.", r"score.\1."),
)
"""From the beginning of its names to torchvision's, and to ours for what torchvision lacks."""

HEADS = ("neck", "embed", "mask", "score")

NOTE = (
    "3x3 convolutions pad by reflection in the file and symmetrically here: "
    "results differ near edges"
)


def is_foolwood(state: State) -> bool:
    """Whether a state dict has the names of that program."""
    return "trunk.0.0.1.weight" in state and "scoreBranch.1.weight" in state


def find_foolwood(state: State) -> Found:
    """Map a DeepMask, or the DeepMask in a SharpMask, whose refinement has other sizes than ours.

    Args:
        state: For which `is_foolwood` is true.

    Raises:
        ModelError: A part is missing.
    """
    renamed: State = {}
    ignored: Counter[str] = Counter()
    for name, tensor in state.items():
        ours = _renamed(name)
        if ours is None:
            ignored[name.partition(".")[0]] += 1
        else:
            renamed[ours] = tensor
    missing = [f"{head}.weight" for head in HEADS[:3] if f"{head}.weight" not in renamed]
    if missing:
        raise ModelError(
            f"expected trunk, maskBranch and scoreBranch of a DeepMask, found no {missing[0]}",
            remedy="import the state dict of a whole DeepMask",
        )
    mask = renamed["mask.weight"]
    renamed["mask.weight"] = mask[:, :, 0, 0] if mask.dim() == 4 else mask
    found = {
        name if name.startswith(HEADS) else f"trunk.{name}": tensor
        for name, tensor in frozen_names(renamed).items()
    }
    return Found(
        name="deepmask-resnet50",
        sizes={
            "width": found["trunk.conv1.weight"].shape[0],
            "neck": found["neck.weight"].shape[0],
            "vector": found["embed.weight"].shape[0],
            "score_hidden": found["score.1.weight"].shape[0],
        },
        state=found,
        ignored=ignored,
        notes=[NOTE],
    )


def _renamed(name: str) -> str | None:
    for pattern, replacement in RENAMED:
        ours, hits = re.subn(f"^{pattern}", replacement, name)
        if hits:
            return re.sub(r"\bconv2\.1\.", "conv2.", ours)
    return None
