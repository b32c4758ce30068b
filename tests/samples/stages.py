# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from foveate.export.execution.stages import Stage


def random_inputs(stage: Stage, height: int, width: int, rows: int) -> dict[str, torch.Tensor]:
    """Return random inputs of another size than the traced one."""
    torch.manual_seed(1)
    found = {}
    for name, example in stage.inputs.items():
        shape = list(example.shape)
        if name == "image":
            shape[2:] = [height, width]
        elif name.startswith("map_"):
            stride = int(name.removeprefix("map_"))
            shape[2:] = [height // stride, width // stride]
        else:
            shape[0] = rows
        found[name] = torch.randn(shape)
        if name == "boxes":
            low = torch.rand(rows, 2) * min(height, width)
            found[name] = torch.cat([low, low + torch.rand(rows, 2) * 200], dim=1)
    return found


def inputs_of_level(
    stage: Stage, height: int, width: int, *, border: int
) -> dict[str, torch.Tensor]:
    """Return random maps of a level of this size with its fill, and one box, the whole level."""
    torch.manual_seed(1)
    sides = [16 * -(-(side + 2 * border) // 16) for side in (height, width)]
    inputs = {}
    for name, example in stage.inputs.items():
        if name != "boxes":
            stride = int(name.removeprefix("map_"))
            inputs[name] = torch.randn(1, example.shape[1], *(side // stride for side in sides))
    box = [[border, border, border + width, border + height]]
    return inputs | {"boxes": torch.tensor(box, dtype=torch.float32)}
