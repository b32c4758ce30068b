# SPDX-License-Identifier: Apache-2.0
"""The importer of Torch7 files: from a file to the weights of the network in it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from foveate.errors import ModelError
from foveate.importing.imported_weights import ImportedWeights
from foveate.importing.torch7.detector import detector_weights
from foveate.importing.torch7.layers import Walker
from foveate.importing.torch7.proposals import deepmask_weights, sharpmask_weights
from foveate.importing.torch7.reader import read_torch7
from foveate.importing.torch7.values import Node, Table, Tensor, Value, describe, unknown
from foveate.importing.torch7.weights import WeightReader


def import_torch7(path: Path) -> ImportedWeights:
    """Read a DeepMask, SharpMask or MultiPathNet that the original code saved.

    Args:
        path: Torch7 file, such as ``deepmask/model.t7`` or ``resnet18_integral_coco.t7``.

    Raises:
        ModelError: The file cannot be read, is damaged, or contains another network.
    """
    root = read_torch7(path)
    try:
        return weights_of(root)
    except ModelError as error:
        raise ModelError(error.what, file=path, remedy=error.remedy) from error


def weights_of(root: Value) -> ImportedWeights:
    """Map the network in the object of a Torch7 file. See ``import_torch7``."""
    # Networks are saved in tables: {model = ...}, {model, transformer}.
    model = root
    for _ in range(3):
        if isinstance(model, Table):
            model = model["model"] or model[1]
    if not isinstance(model, Node):
        raise unknown("a network in the file", describe(model))
    walker, reader = Walker(), WeightReader()
    if model["neths"] is not None:
        weights = sharpmask_weights(model, walker, reader)
    elif model["trunk"] is not None:
        weights = deepmask_weights(model, walker, reader)
    elif model["modules"] is not None:
        weights = detector_weights(model, walker, reader)
    else:
        raise unknown("a network", f"a {model.name}")
    unused = [layer.name for key, layer in walker.weighted.items() if key not in reader.used]
    if unused:
        raise unknown(
            f"a use for every layer in a {weights.name}",
            f"{len(unused)} more: {', '.join(unused[:3])}",
        )
    return replace(weights, ignored={**walker.ignored, **_leftovers(model)})


def _leftovers(model: Node) -> Counter[str]:
    """Count the gradients and outputs that training left in the fields of modules."""
    counted: Counter[str] = Counter()
    pending: list[Value] = [model]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if not isinstance(value, Node | Table) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Table):
            pending += value.entries.values()
            continue
        for name, field in value.fields.entries.items():
            if name in ("gradWeight", "gradBias", "output", "gradInput"):
                counted[f"field {name}"] += isinstance(field, Tensor) and field.size > 0
            else:
                pending.append(field)
    return +counted  # without those that were always empty
