# SPDX-License-Identifier: Apache-2.0
"""A Torch7 network as a list of layers: no containers, and modules without weights as kinds.

The importers match this list with the known networks and do not follow positions in the tree,
because one network was saved in several forms: with batch norm in the branches or after the
addition, wrapped for several GPUs, padded by a module of its own or by the convolution.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from foveate.importing.torch7.values import Node, Table, Tensor, Value, damaged, describe, unknown
from foveate.models.layers import Padding

Weighted = Literal["conv", "linear", "affine"]
Other = Literal["relu", "pool", "pad", "roi", "normalize", "times", "boxnorm", "sum", "fork"]
Kind = Weighted | Other

CLASSES: dict[Kind, tuple[str, ...]] = {
    "conv": ("SpatialConvolution", "SpatialConvolutionMM"),
    "linear": ("Linear",),
    "affine": ("ConstAffine", "SpatialConstDiagonal", "SpatialBatchNormalization"),
    "relu": ("ReLU", "Threshold"),
    "pool": ("SpatialMaxPooling",),
    "pad": tuple(f"Spatial{x}Padding" for x in ("Symmetric", "Replication", "Reflection", "Zero")),
    "roi": ("ROIPooling",),
    "normalize": ("Normalize",),
    "times": ("MulConstant",),
    "boxnorm": ("BBoxNorm",),
    "sum": ("CAddTable",),
    "fork": ("ConcatTable", "ParallelTable", "DPParallelTable", "ModelParallelTable"),
}
"""Classes of each kind of layer, without their package."""

KINDS = {name: kind for kind, names in CLASSES.items() for name in names}
SEQUENCES = ("Sequential", "NoBackprop", "DataParallelTable", "SequentialSplitBatch")
WEIGHTED: tuple[Weighted, ...] = get_args(Weighted)
PADDINGS: dict[Padding, str] = {
    "zeros": "SpatialZeroPadding",
    "symmetric": "SpatialSymmetricPadding",
}

# Far above any network here. Modules that contain each other would never end without a limit.
MAX_LAYERS = 20_000
MAX_NESTING = 64


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a network.

    Args:
        kind: Kind of the layer, whatever its class is called.
        path: Path of the module in the tree.
        node: Module.
        padding: Class of the padding of a convolution; ``SpatialZeroPadding`` for its own.
        pad: Pixels of padding on each side of a convolution.
        branches: Layers of each branch of a fork.
    """

    kind: Kind
    path: str
    node: Node
    padding: str = "SpatialZeroPadding"
    pad: int = 0
    branches: tuple[tuple[Layer, ...], ...] = ()

    @property
    def name(self) -> str:
        """The class and the path, for error messages."""
        return f"{self.node.name} at {self.path}"

    def whole(self, field: str, default: int | None = None) -> int:
        """Return a field that is a whole number."""
        value = self.node[field]
        if value is None and default is not None:
            return default
        if not isinstance(value, int):
            raise damaged(f"a whole number in {field} of {self.name}", describe(value))
        return value


class Walker:
    """A walk through the containers of a network.

    Attributes:
        ignored: Number of modules of each class that is not a kind of layer; they have no weights.
        weighted: Each layer with weights so far, by the identity of its module.
    """

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.weighted: dict[int, Layer] = {}
        self._count = 0

    def layers(self, module: Value, path: str, depth: int = 0) -> tuple[Layer, ...]:
        """List the layers of the module at a path in the order of their application."""
        return tuple(_with_padding(self._walk(module, path, depth)))

    def _walk(self, module: Value, path: str, depth: int) -> Iterator[Layer]:
        if not isinstance(module, Node):
            raise unknown(f"a module at {path}", describe(module))
        self._count += 1
        if self._count > MAX_LAYERS or depth > MAX_NESTING:
            raise damaged(f"at most {MAX_LAYERS} modules, {MAX_NESTING} deep", f"more at {path}")
        short = module.name.rpartition(".")[2]
        kind = KINDS.get(short)
        if short in SEQUENCES:
            for step, child in _children(module, path):
                yield from self._walk(child, step, depth + 1)
        elif kind == "fork":
            branches = [self.layers(child, at, depth + 1) for at, child in _children(module, path)]
            yield Layer(kind="fork", path=path, node=module, branches=tuple(branches))
        elif kind is not None:
            layer = Layer(kind=kind, path=path, node=module)
            if kind in WEIGHTED:
                self.weighted[id(module)] = layer
            yield layer
        else:
            self._ignore(module, path, depth)

    def _ignore(self, module: Node, path: str, depth: int) -> None:
        """Count a module of another class, which may have others inside, but no weights."""
        inner: list[Layer] = []
        if module["modules"] is not None:
            for step, child in _children(module, path):
                inner += self._walk(child, step, depth + 1)
        weight = module["weight"]
        if (isinstance(weight, Tensor) and weight.size) or is_weighted(inner):
            raise unknown(f"a layer of a known class at {path}", f"a {module.name} with weights")
        self.ignored[module.name] += 1


def _children(module: Node, path: str) -> list[tuple[str, Value]]:
    """List the modules inside a container, each with its path."""
    modules, inner = module["modules"], module["inner"]
    # Old files have the one module of a NoBackprop in a field of its own.
    if modules is None and inner is not None:
        return [(f"{path}.inner", inner)]
    if not isinstance(modules, Table):
        raise damaged(f"the modules of the {module.name} at {path}", describe(modules))
    # The modules of a DataParallelTable are copies of one on several GPUs.
    items = modules.sequence()[: 1 if module.name == "nn.DataParallelTable" else None]
    return [(f"{path}.modules[{index}]", item) for index, item in enumerate(items, 1)]


def signature(layers: Sequence[Layer]) -> str:
    """Return the kinds of layers, such as "conv affine relu"."""
    return " ".join(layer.kind for layer in layers)


def expect(layers: Sequence[Layer], pattern: str, where: str) -> list[Layer]:
    """Return the layers with weights if the kinds of all layers match a regular expression."""
    found = signature(layers)
    if not re.fullmatch(pattern, found):
        raise unknown(f"the layers {pattern!r} {where}", f"{found!r}")
    return [layer for layer in layers if is_weighted([layer])]


def every(layers: Sequence[Layer], *kinds: Kind) -> list[Layer]:
    """Return the layers of some kinds, including those in forks, in the order of application."""
    found = []
    for layer in layers:
        if layer.kind in kinds:
            found.append(layer)
        for branch in layer.branches:
            found += every(branch, *kinds)
    return found


def is_weighted(layers: Sequence[Layer]) -> bool:
    """Return whether there are weights in a list of layers or in its forks."""
    return bool(every(layers, *WEIGHTED))


def _with_padding(layers: Iterator[Layer]) -> Iterator[Layer]:
    """Join each padding module with the convolution after it; crops are dropped."""
    padding, pad = "", 0
    for layer in layers:
        if layer.kind == "pad":
            amount = layer.whole("pad_l", 0)
            if amount > 0:  # a crop is a negative padding
                padding, pad = layer.node.name.rpartition(".")[2], amount
        elif layer.kind == "conv":
            own = layer.whole("padW", 0)
            yield replace(layer, padding=padding or "SpatialZeroPadding", pad=pad + own)
            padding, pad = "", 0
        else:
            yield layer


def padding_notes(convolutions: Sequence[Layer], expected: Padding) -> list[str]:
    """Return a note per class of padding that is not as expected by the network.

    The weights are usable, but results differ.

    Raises:
        ModelError: One pads by another amount, which would shift all maps.
    """
    other: Counter[str] = Counter()
    for conv in convolutions:
        half = conv.whole("kW") // 2
        if conv.pad != half:
            raise unknown(f"{half} pixels of padding in front of {conv.name}", conv.pad)
        # One row of either class of symmetric padding is the edge repeated.
        same = conv.padding == PADDINGS[expected] or (
            expected == "symmetric" and half == 1 and conv.padding == "SpatialReplicationPadding"
        )
        if half and not same:
            other[conv.padding] += 1
    return [
        f"{count} convolutions pad by {name} in the file and by {expected} here: "
        "results differ near edges"
        for name, count in other.items()
    ]


def expect_pooling(layer: Layer, *, side: int, stride: int, pad: int) -> None:
    """Check the geometry of a max pooling."""
    found = (layer.whole("kW"), layer.whole("dW"), layer.whole("padW", 0))
    if found != (side, stride, pad):
        raise unknown(
            f"a pooling of side {side}, stride {stride} and padding {pad} in {layer.name}",
            f"{found[0]}, {found[1]} and {found[2]}",
        )
