# SPDX-License-Identifier: Apache-2.0
"""A Torch7 network as a list of layers: containers opened, what has no weights told apart by kind.

The importers match this list against the networks that they know, instead of following positions in
the tree, since one network was saved in several forms: with batch norm in the branches or behind
the addition, wrapped for several GPUs, padded by a module of its own or by the convolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foveate.errors import ModelError
from foveate.importing.torch7.values import Node, Table, Tensor, Value, describe

Kind = Literal[
    "conv",
    "linear",
    "affine",
    "relu",
    "pool",
    "pad",
    "roi",
    "normalise",
    "times",
    "boxnorm",
    "sum",
    "fork",
]

KINDS: dict[str, Kind] = {
    "SpatialConvolution": "conv",
    "SpatialConvolutionMM": "conv",
    "Linear": "linear",
    "ConstAffine": "affine",
    "SpatialConstDiagonal": "affine",
    "SpatialBatchNormalization": "affine",
    "ReLU": "relu",
    "Threshold": "relu",
    "SpatialMaxPooling": "pool",
    "SpatialSymmetricPadding": "pad",
    "SpatialReplicationPadding": "pad",
    "SpatialReflectionPadding": "pad",
    "SpatialZeroPadding": "pad",
    "ROIPooling": "roi",
    "Normalize": "normalise",
    "MulConstant": "times",
    "BBoxNorm": "boxnorm",
    "CAddTable": "sum",
    "ConcatTable": "fork",
    "ParallelTable": "fork",
    "DPParallelTable": "fork",
    "ModelParallelTable": "fork",
}
SEQUENCES = ("Sequential", "NoBackprop", "DataParallelTable", "SequentialSplitBatch")
WEIGHTED: tuple[Kind, ...] = ("conv", "linear", "affine")

MAX_LAYERS = 20_000
"""Far above any network here; a file whose modules contain each other would never end."""

MAX_NESTING = 64


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer.

    Attributes:
        kind: What it does, whatever its class is called.
        path: Of the module in the tree.
        node: The module.
        padding: In front of a convolution: the name of the padding module's class, or
            ``SpatialZeroPadding`` for the convolution's own.
        pad: Pixels on each side.
        branches: Of a fork.
    """

    kind: Kind
    path: str
    node: Node
    padding: str = "SpatialZeroPadding"
    pad: int = 0
    branches: tuple[tuple[Layer, ...], ...] = ()

    @property
    def name(self) -> str:
        """Class and path, for messages."""
        return f"{self.node.name} at {self.path}"

    def whole(self, field: str, default: int | None = None) -> int:
        """Return a field that is a whole number.

        Raises:
            ModelError: It is none.
        """
        value = self.node[field]
        if value is None and default is not None:
            return default
        if not isinstance(value, int):
            raise ModelError(
                f"expected a whole number in {field} of {self.name}, found {describe(value)}",
                remedy="the file is damaged: get it again",
            )
        return value


class Walker:
    """Open the containers of a network.

    Attributes:
        ignored: How many modules of each class had no weights and no meaning for an importer.
        weighted: Every layer with weights that was met, by the identity of its module.
    """

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.weighted: dict[int, Layer] = {}
        self._count = 0

    def layers(self, module: Value, path: str) -> tuple[Layer, ...]:
        """List the layers of a module, in the order in which they are applied.

        Args:
            module: A Torch7 module.
            path: Where it stands in the file, for messages.

        Raises:
            ModelError: It is no module, or one with weights that no importer knows.
        """
        return tuple(_with_padding(list(self._walk(module, path, 0))))

    def _walk(self, module: Value, path: str, depth: int) -> Iterator[Layer]:
        if not isinstance(module, Node):
            raise ModelError(
                f"expected a module at {path}, found {describe(module)}",
                remedy="import a DeepMask, SharpMask or MultiPathNet of the original code",
            )
        self._count += 1
        if self._count > MAX_LAYERS or depth > MAX_NESTING:
            raise ModelError(
                f"expected at most {MAX_LAYERS} modules, {MAX_NESTING} deep, found more at {path}",
                remedy="the file is damaged: get it again",
            )
        short = module.name.rpartition(".")[2]
        kind = KINDS.get(short)
        if short in SEQUENCES:
            for step, child in children(module, path):
                yield from self._walk(child, step, depth + 1)
        elif kind == "fork":
            branches = tuple(
                tuple(_with_padding(list(self._walk(child, step, depth + 1))))
                for step, child in children(module, path)
            )
            yield Layer(kind="fork", path=path, node=module, branches=branches)
        elif kind is not None:
            layer = Layer(kind=kind, path=path, node=module)
            if kind in WEIGHTED:
                self.weighted[id(module)] = layer
            yield layer
        else:
            self._ignore(module, path, depth)

    def _ignore(self, module: Node, path: str, depth: int) -> None:
        """Count a module of another class, which may hold others, if there are no weights in it."""
        inner: list[Layer] = []
        if module["modules"] is not None:
            for step, child in children(module, path):
                inner += self._walk(child, step, depth + 1)
        weight = module["weight"]
        if (isinstance(weight, Tensor) and weight.size) or is_weighted(inner):
            raise ModelError(
                f"expected a layer of a known class at {path}, found a {module.name} with weights",
                remedy="import a DeepMask, SharpMask or MultiPathNet of the original code",
            )
        self.ignored[module.name] += 1


def children(module: Node, path: str) -> list[tuple[str, Value]]:
    """List the modules inside a container, each with its path.

    Old files keep the one module of a NoBackprop in ``inner``. Of a DataParallelTable's copies on
    several GPUs the first is listed.
    """
    inner = module["inner"]
    modules = module["modules"]
    if modules is None and inner is not None:
        return [(f"{path}.inner", inner)]
    if not isinstance(modules, Table):
        raise ModelError(
            f"expected the modules of the {module.name} at {path}, found {describe(modules)}",
            remedy="the file is damaged: get it again",
        )
    items = modules.sequence()
    if module.name == "nn.DataParallelTable":
        items = items[:1]
    return [(f"{path}.modules[{index}]", item) for index, item in enumerate(items, 1)]


def signature(layers: Sequence[Layer]) -> str:
    """The kinds of layers, for matching and for messages, such as "conv affine relu"."""
    return " ".join(layer.kind for layer in layers)


def every(layers: Sequence[Layer], *kinds: Kind) -> list[Layer]:
    """The layers of some kinds, those in forks included, in the order of application."""
    found = []
    for layer in layers:
        if layer.kind in kinds:
            found.append(layer)
        for branch in layer.branches:
            found += every(branch, *kinds)
    return found


def is_weighted(layers: Sequence[Layer]) -> bool:
    """Whether there are weights in a list or in its forks."""
    return bool(every(layers, *WEIGHTED))


def _with_padding(layers: list[Layer]) -> Iterator[Layer]:
    """Join a padding module with the convolution behind it; crops are dropped."""
    padding = ""
    pad = 0
    for layer in layers:
        if layer.kind == "pad":
            amount = layer.whole("pad_l", 0)
            if amount > 0:
                padding, pad = layer.node.name.rpartition(".")[2], amount
        elif layer.kind == "conv":
            own = layer.whole("padW", 0)
            yield replace(layer, padding=padding or "SpatialZeroPadding", pad=pad + own)
            padding, pad = "", 0
        else:
            yield layer
