# SPDX-License-Identifier: Apache-2.0
"""Original weights: which network a Torch7 file holds, and the network."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from foveate.errors import ModelError
from foveate.importing.found import Found
from foveate.importing.torch7.detector import find_detector
from foveate.importing.torch7.layers import Walker
from foveate.importing.torch7.proposals import find_deepmask, find_sharpmask
from foveate.importing.torch7.reader import read_torch7
from foveate.importing.torch7.values import Node, Table, Tensor, Value, describe
from foveate.importing.torch7.weights import Weights

ORIGINAL = "import a DeepMask, SharpMask or MultiPathNet of the original code"


def import_torch7(path: Path) -> Found:
    """Read a DeepMask, SharpMask or MultiPathNet that the original code saved.

    Args:
        path: A Torch7 file, such as ``deepmask/model.t7`` or ``resnet18_integral_coco.t7``.

    Raises:
        ModelError: It cannot be read, is damaged, or holds another network.
    """
    root = read_torch7(path)
    try:
        return find_network(root)
    except ModelError as error:
        raise ModelError(error.what, file=path, remedy=error.remedy) from error


def find_network(root: Value) -> Found:
    """Map the network in what a Torch7 file holds. See `import_torch7`."""
    model = _model_of(root)
    walker, weights = Walker(), Weights()
    if model["neths"] is not None:
        found = find_sharpmask(model, walker, weights)
    elif model["trunk"] is not None:
        found = find_deepmask(model, walker, weights)
    elif model["modules"] is not None:
        found = find_detector(model, walker, weights)
    else:
        raise ModelError(f"expected a network, found a {model.name}", remedy=ORIGINAL)
    unused = [layer.name for key, layer in walker.weighted.items() if key not in weights.used]
    if unused:
        raise ModelError(
            f"expected a use for every layer in a {found.name}, found {len(unused)} more: "
            f"{', '.join(unused[:3])}",
            remedy=ORIGINAL,
        )
    return replace(found, ignored={**walker.ignored, **_other_fields(model)})


def _model_of(root: Value) -> Node:
    """Open the tables that networks are saved in: {model = ...}, {model, transformer}."""
    for _ in range(3):
        if not isinstance(root, Table):
            break
        root = root["model"] or root[1]
    if not isinstance(root, Node):
        raise ModelError(f"expected a network in the file, found {describe(root)}", remedy=ORIGINAL)
    return root


def _other_fields(model: Node) -> Counter[str]:
    """Count the gradients and outputs that training left in the file, as fields of modules."""
    counted: Counter[str] = Counter()
    pending: list[Value] = [model]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if isinstance(value, Node) and id(value) not in seen:
            seen.add(id(value))
            for name, field in value.fields.entries.items():
                if name in ("gradWeight", "gradBias", "output", "gradInput"):
                    counted[f"field {name}"] += isinstance(field, Tensor) and field.size > 0
                else:
                    pending.append(field)
        elif isinstance(value, Table) and id(value) not in seen:
            seen.add(id(value))
            pending += value.entries.values()
    return +counted
