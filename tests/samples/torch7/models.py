# SPDX-License-Identifier: Apache-2.0
"""The original networks as narrow trees of Torch7 modules, with weights as NumPy arrays.

The trees are those that DeepMask.lua, SharpMask.lua, resnet.lua and multipathnet.lua build and
train. ``sealed`` turns arrays into tensors that share storages, as after ``getParameters``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from tests.samples.torch7.writer import T7Function, T7Object, T7Storage, T7Tensor

Form = Literal["branches", "addition"]


def node(name: str, **fields: Any) -> T7Object:
    state = {"train": False, "_type": "torch.CudaTensor", "output": np.zeros(0, np.float32)}
    return T7Object(name, {**fields, **state})


def sequential(*modules: T7Object) -> T7Object:
    return node("nn.Sequential", modules=list(modules))


def fork(name: str, *modules: T7Object) -> T7Object:
    return node(f"nn.{name}", modules=list(modules))


@dataclass
class Maker:
    """A maker of layers with random weights.

    Args:
        form: Place of batch norm: at the end of the branches of a block, or after the addition.
        affine: Class of the frozen batch norm, the old or the new one.
        symmetric: Whether a symmetric padding module is in front of each convolution.
        classes: Package of the convolutions, ``cudnn`` or ``nn``.
        rng: Generator of the weights.
    """

    form: Form = "branches"
    affine: str = "inn.ConstAffine"
    symmetric: bool = True
    classes: str = "cudnn"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def array(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def conv(
        self, inputs: int, outputs: int, side: int, stride: int = 1, *, bias: bool = True
    ) -> T7Object:
        weight = self.array(outputs, inputs, side, side, scale=(inputs * side**2) ** -0.5)
        pad = side // 2
        own = 0 if self.symmetric else pad
        conv = node(
            f"{self.classes}.SpatialConvolution",
            nInputPlane=inputs,
            nOutputPlane=outputs,
            kW=side,
            kH=side,
            dW=stride,
            dH=stride,
            padW=own,
            padH=own,
            weight=weight,
            gradWeight=np.ones_like(weight),
            **({"bias": self.array(outputs), "gradBias": self.array(outputs)} if bias else {}),
        )
        if pad and self.symmetric:
            return sequential(padding("nn.SpatialSymmetricPadding", pad), conv)
        return conv

    def linear(self, inputs: int, outputs: int) -> T7Object:
        weight = self.array(outputs, inputs, scale=inputs**-0.5)
        return node(
            "nn.Linear",
            weight=weight,
            bias=self.array(outputs),
            gradWeight=np.ones_like(weight),
            gradBias=self.array(outputs),
        )

    def norm(self, channels: int) -> T7Object:
        shape = (1, channels, 1, 1) if self.affine.endswith("Diagonal") else (channels,)
        return node(
            self.affine, a=1 + self.array(*shape, scale=0.3), b=self.array(*shape, scale=0.3)
        )

    def block(self, inputs: int, width: int, stride: int, *, basic: bool = False) -> T7Object:
        outputs = width * (1 if basic else 4)
        if basic:
            steps = [self.conv(inputs, width, 3, stride, bias=False), self.norm(width), relu()]
            steps += [self.conv(width, outputs, 3, bias=False)]
        else:
            steps = [self.conv(inputs, width, 1, bias=False), self.norm(width), relu()]
            steps += [self.conv(width, width, 3, stride, bias=False), self.norm(width), relu()]
            steps += [self.conv(width, outputs, 1, bias=False)]
        shortcut = node("nn.Identity")
        if stride != 1 or inputs != outputs:
            shortcut = sequential(self.conv(inputs, outputs, 1, stride, bias=False))
        behind = [relu()]
        if self.form == "addition":
            behind.insert(0, self.norm(outputs))
        else:
            steps.append(self.norm(outputs))
            if shortcut.name == "nn.Sequential":
                shortcut.fields["modules"].append(self.norm(outputs))
        return sequential(
            fork("ConcatTable", sequential(*steps), shortcut),
            node("nn.CAddTable", inplace=True),
            *behind,
        )

    def stage(
        self, inputs: int, width: int, blocks: int, stride: int, *, basic: bool = False
    ) -> T7Object:
        outputs = width * (1 if basic else 4)
        return sequential(
            *(
                self.block(outputs if i else inputs, width, 1 if i else stride, basic=basic)
                for i in range(blocks)
            )
        )

    def resnet(self, width: int, depths: Sequence[int], *, basic: bool = False) -> list[T7Object]:
        """Return the modules 1 to 7 of fb.resnet.torch."""
        modules = [self.conv(3, width, 7, 2, bias=False), self.norm(width), relu(), pool(3, 2, 1)]
        inputs = width
        for stage, blocks in enumerate(depths):
            stride = 2 if stage else 1
            modules.append(self.stage(inputs, width << stage, blocks, stride, basic=basic))
            inputs = (width << stage) * (1 if basic else 4)
        return modules


def relu() -> T7Object:
    return node("cudnn.ReLU", inplace=True)


def pool(side: int, stride: int, pad: int = 0) -> T7Object:
    sizes = {"kW": side, "kH": side, "dW": stride, "dH": stride, "padW": pad, "padH": pad}
    return node("nn.SpatialMaxPooling", **sizes)


def padding(name: str, pad: int) -> T7Object:
    return node(name, pad_l=pad, pad_r=pad, pad_t=pad, pad_b=pad)


def view(*size: int) -> T7Object:
    return node("nn.View", size=np.array(size, np.int64), numElements=int(np.prod(size)))


def dropout() -> T7Object:
    return node("nn.Dropout", p=0.5)


def score_branch(make: Maker, vector: int, hidden: int) -> T7Object:
    threshold = node("nn.Threshold", threshold=0, val=1e-6)
    return sequential(
        dropout(), make.linear(vector, hidden), threshold, dropout(), make.linear(hidden, 1)
    )


def mask_branch(make: Maker, vector: int, mask_side: int, supervised: int) -> T7Object:
    upsample = sequential(
        node("nn.Copy", intype="torch.CudaTensor", outtype="torch.FloatTensor"),
        view(32, mask_side, mask_side),
        node("nn.SpatialReSamplingEx", owidth=supervised, oheight=supervised, mode="bilinear"),
        view(32, supervised**2),
        node("nn.Copy", intype="torch.FloatTensor", outtype="torch.CudaTensor"),
    )
    return sequential(sequential(make.linear(vector, mask_side**2)), upsample)


def deepmask(
    make: Maker, *, width: int = 2, neck: int = 3, vector: int = 5, score_hidden: int = 7
) -> T7Object:
    trunk = sequential(
        *make.resnet(width, (3, 4, 6)),
        padding("nn.SpatialZeroPadding", -1),
        make.conv(16 * width, neck, 1),
        relu(),
        view(32, neck * 100),
        make.linear(neck * 100, vector),
    )
    return T7Object(
        "nn.DeepMask",
        {
            "trunk": trunk,
            "maskBranch": mask_branch(make, vector, 56, 112),
            "scoreBranch": score_branch(make, vector, score_hidden),
            "fSz": 10,
        },
    )


def deepmask_vgg(make: Maker, *, width: int = 2, neck: int = 3, vector: int = 4) -> T7Object:
    """Return the unreleased network of the first paper; its score branch reads module 20."""
    modules, inputs = [], 3
    for stage, depth in enumerate((1, 1, 2, 2, 2)):
        outputs = width * min(2**stage, 8)
        modules += [pool(2, 2)] if stage else []
        for _ in range(depth):
            modules += [make.conv(inputs, outputs, 3), relu()]
            inputs = outputs
    modules += [make.conv(inputs, neck, 1), relu(), view(32, neck * 196)]
    hidden = (5, 10)
    score = sequential(
        pool(2, 2),
        view(32, inputs * 49),
        *(make.linear(inputs * 49, hidden[0]), relu(), dropout()),
        *(make.linear(*hidden), relu(), dropout(), make.linear(hidden[1], 1)),
    )
    return T7Object(
        "nn.DeepMask",
        {
            "trunk": sequential(*modules, make.linear(neck * 196, vector)),
            "maskBranch": mask_branch(make, vector, 56, 224),
            "scoreBranch": score,
            "fSz": 14,
        },
    )


def sharpmask(make: Maker, *, km: int = 16, ks: int = 16, **sizes: int) -> T7Object:
    """Return a SharpMask whose refs share their modules with neths and netvs, as in SharpMask.lua."""
    model = deepmask(make, **sizes)
    width, vector = sizes.get("width", 2), sizes.get("vector", 5)
    verticals = {0: sequential(make.linear(vector, km * 100), view(32, km, 10, 10))}
    horizontals, refs = {}, {0: verticals[0]}
    channels = ((16 * width, 64), (8 * width, 64), (4 * width, 64), (width, 32))
    for i, (skip, reduced) in enumerate(channels, 1):
        k, v = ks >> (i - 1), km >> (i - 1)
        crop = [padding("nn.SpatialZeroPadding", -(2 ** (i - 1)))] if i > 1 else []
        horizontals[i] = sequential(
            *crop,
            *make.conv(skip, reduced, 3).fields["modules"],
            relu(),
            *make.conv(reduced, k, 3).fields["modules"],
            relu(),
            *make.conv(k, v // 2, 3).fields["modules"],
        )
        verticals[i] = sequential(
            *make.conv(v, v, 3).fields["modules"],
            relu(),
            *make.conv(v, v // 2, 3).fields["modules"],
        )
        refs[i] = sequential(
            fork("ParallelTable", horizontals[i], verticals[i]),
            node("nn.CAddTable"),
            relu(),
            node("nn.SpatialUpSamplingNearest", scale_factor=2),
        )
    last = make.conv(km // 16, 1, 3).fields["modules"]
    refs[4].fields["modules"] += [*last, view(32, 160 * 160)]
    fields = model.fields
    return T7Object(
        "nn.SharpMask",
        {
            "km": km,
            "ks": ks,
            "skpos": [8, 6, 5, 3],
            "inps": [],
            "fSz": 10,
            "trunk": fields["trunk"],
            "scoreBranch": fields["scoreBranch"],
            "maskBranchDM": fields["maskBranch"],
            "neths": horizontals,
            "netvs": verticals,
            "refs": refs,
        },
    )


def saved(model: T7Object) -> dict[str, Any]:
    """Return a table as the trainers save it: the model, its configuration, and a function."""
    model.fields["accUpdate"] = T7Function(upvalues=[{"name": "self", "value": model}])
    config = {"iSz": 160, "oSz": 56, "gSz": 112, "batch": 32, "rundir": "exps/"}
    return {"model": sealed(model, {}, "Cuda"), "config": config}


def sealed(value: Any, known: dict[int, Any], kind: str = "Float") -> Any:
    """Replace arrays by tensors; weights share one storage, their gradients another."""
    flat: dict[str, list[np.ndarray]] = {"weight": [], "gradWeight": []}
    _collect(value, flat, set())
    storages = {
        role: T7Storage(np.concatenate([a.reshape(-1) for a in arrays]), kind)
        for role, arrays in flat.items()
        if arrays
    }
    places: dict[int, tuple[T7Storage, int]] = {}
    for role, arrays in flat.items():
        offset = 0
        for array in arrays:
            places[id(array)] = (storages[role], offset)
            offset += array.size
    return _seal(value, known, places, kind)


def _collect(value: Any, flat: dict[str, list[np.ndarray]], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, T7Object):
        for name, item in value.fields.items():
            if isinstance(item, np.ndarray) and name in ("weight", "bias"):
                flat["weight"].append(item)
            elif isinstance(item, np.ndarray) and name in ("gradWeight", "gradBias"):
                flat["gradWeight"].append(item)
            else:
                _collect(item, flat, seen)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _collect(item, flat, seen)


def _seal(
    value: Any, known: dict[int, Any], places: dict[int, tuple[T7Storage, int]], kind: str
) -> Any:
    if isinstance(value, np.ndarray) or id(value) in known:
        return known.get(id(value)) or _sealed_array(value, places, kind)
    if isinstance(value, T7Object):
        copy = known[id(value)] = T7Object(value.name, {}, value.version, value.before)
        for name, item in value.fields.items():
            copy.fields[name] = _seal(item, known, places, kind)
        return copy
    if isinstance(value, T7Function):
        upvalues = _seal(value.upvalues, known, places, kind)
        return T7Function(value.bytecode, upvalues, value.tag)
    if isinstance(value, list):
        return [_seal(item, known, places, kind) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _seal(item, known, places, kind) for key, item in value.items()}


def _sealed_array(
    array: np.ndarray, places: dict[int, tuple[T7Storage, int]], kind: str
) -> T7Tensor:
    kind = "Long" if array.dtype == np.int64 else kind
    if not array.size:
        return T7Tensor(None, (), (), 0, kind)
    storage, offset = places.get(id(array), (T7Storage(array.reshape(-1), kind), 0))
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return T7Tensor(storage, array.shape, strides, offset, kind)


def every_module(tree: Any, seen: set[int] | None = None) -> list[T7Object]:
    seen = set() if seen is None else seen
    if id(tree) in seen:
        return []
    seen.add(id(tree))
    if isinstance(tree, T7Object):
        return [tree, *every_module(tree.fields, seen)]
    if isinstance(tree, dict | list):
        items = tree.values() if isinstance(tree, dict) else tree
        return [module for item in items for module in every_module(item, seen)]
    return []


def score_layer(tree: T7Object, index: int) -> T7Object:
    layer = tree.fields["scoreBranch"].fields["modules"][index]
    assert isinstance(layer, T7Object)
    return layer


def trunk_module(tree: T7Object, index: int) -> T7Object:
    module = tree.fields["trunk"].fields["modules"][index]
    assert isinstance(module, T7Object)
    return module
