# SPDX-License-Identifier: Apache-2.0
"""The original detectors as narrow trees of Torch7 modules: resnet.lua, multipathnet.lua, vgg.lua."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.samples.torch7.models import Maker, dropout, fork, node, pool, relu, sequential, view
from tests.samples.torch7.writer import T7Object

HEADS = 6


def roi_pooling(side: int, scale: float, v2: bool | None = True) -> T7Object:
    flag = {} if v2 is None else {"v2": v2}
    return node("inn.ROIPooling", W=side, H=side, spatial_scale=scale, **flag)


def wrapped(module: T7Object, wrapper: str) -> T7Object:
    """Wrap a module for one GPU, for several, or in the old class with a field of its own for it."""
    if wrapper == "DataParallelTable":
        parallel = node("nn.DataParallelTable", modules=[module], gpuAssignments=[1, 2])
        parallel.version, parallel.before = 3, ([1, 2],)
        return parallel
    if wrapper == "NoBackprop-1":
        return node("nn.NoBackprop", inner=module)
    return sequential(module)


def integral_heads(make: Maker, inputs: int, box_inputs: int, classes: int, kind: str) -> T7Object:
    class_heads = fork("ConcatTable", *(make.linear(inputs, classes + 1) for _ in range(HEADS)))
    return fork(kind, class_heads, make.linear(box_inputs, 4 * (classes + 1)))


def mode_switch() -> T7Object:
    softmaxes = fork("ParallelTable", *(sequential(node("nn.SoftMax")) for _ in range(HEADS)))
    train = fork("ParallelTable", node("nn.SelectTable", index=1), node("nn.Identity"))
    mean = sequential(softmaxes, node("nn.JoinTable", dimension=1), node("nn.Mean", dimension=1))
    test = sequential(fork("ParallelTable", mean, node("nn.Identity")))
    return node("nn.ModeSwitch", modules=[train, test])


def box_norm() -> T7Object:
    norm = node(
        "nn.BBoxNorm",
        mean=np.array([[0.0, 0.01, 0.02, 0.03]], np.float32),
        std=np.array([[0.1, 0.1, 0.2, 0.2]], np.float32),
    )
    return fork("ParallelTable", node("nn.Identity"), norm)


def without_mode_switch(tree: T7Object) -> T7Object:
    """Return the modules that compute the logits: without the mean of softmaxes and the box norm."""
    modules = [m for m in tree.fields["modules"] if m.name != "nn.ModeSwitch"]
    is_norm = [m.name == "nn.ParallelTable" and "BBoxNorm" in _names(m) for m in modules]
    return sequential(*(m for m, norm in zip(modules, is_norm, strict=True) if not norm))


def _names(module: T7Object) -> str:
    return " ".join(child.name for child in module.fields["modules"])


def fold_batch_norm(modules: list[T7Object]) -> None:
    """Fold the norms after convolutions into them, as the original code does in five modules."""
    for i in range(len(modules) - 1, 0, -1):
        norm, conv = modules[i], modules[i - 1]
        if norm.name == "inn.ConstAffine" and conv.name.endswith("Convolution"):
            scale = norm.fields["a"].reshape(-1, 1, 1, 1)
            conv.fields["weight"] = conv.fields["weight"] * scale
            conv.fields["bias"] = norm.fields["b"].copy()
            modules.pop(i)
    for module in modules:
        fold_batch_norm(module.fields.get("modules", []))


def multipathnet_resnet(
    make: Maker,
    *,
    width: int = 2,
    depths: Sequence[int] = (2, 2, 2, 2),
    basic: bool = True,
    classes: int = 4,
    wrapper: str = "Sequential",
) -> T7Object:
    modules = make.resnet(width, depths, basic=basic)
    frozen = modules[:5]
    fold_batch_norm(frozen)
    no_backprop = wrapped(sequential(*frozen), "NoBackprop-1")
    if wrapper != "NoBackprop-1":
        no_backprop = node("nn.NoBackprop", modules=[sequential(*frozen)])
        no_backprop.version = 2
    features = sequential(no_backprop, *modules[5:7])
    outputs = 8 * width * (1 if basic else 4)
    average = node("cudnn.SpatialAveragePooling", kW=7, dW=1)
    region = sequential(modules[7], average, view(-1, outputs))
    parallel = wrapper == "DataParallelTable"
    return sequential(
        fork(
            "ParallelTable",
            wrapped(features, "DataParallelTable" if parallel else "Sequential"),
            node("nn.Identity"),
        ),
        roi_pooling(14, 1 / 16),
        wrapped(region, "DataParallelTable" if parallel else "Sequential"),
        integral_heads(make, outputs, outputs, classes, "ConcatTable"),
        mode_switch(),
        box_norm(),
    )


def vgg16(make: Maker, width: int) -> list[T7Object]:
    """Return the 30 modules up to the last ReLU of the convolutions."""
    modules, inputs = [], 3
    for stage, depth in enumerate((2, 2, 3, 3, 3)):
        outputs = width * min(2**stage, 8)
        if stage:
            modules.append(pool(2, 2))
        for _ in range(depth):
            modules += [make.conv(inputs, outputs, 3), relu()]
            inputs = outputs
    return modules


def fc6_fc7(make: Maker, inputs: int, hidden: int) -> T7Object:
    fc6, fc7 = make.linear(inputs, hidden), make.linear(hidden, hidden)
    return sequential(fc6, relu(), dropout(), fc7, relu(), dropout())


def fast_rcnn_vgg(make: Maker, *, width: int = 2, v2: bool | None = None) -> T7Object:
    features, hidden, classes = vgg16(make, width), 6, 3
    frozen = node("nn.NoBackprop", modules=[sequential(*features[:10])])
    return sequential(
        fork("ParallelTable", sequential(frozen, *features[10:]), node("nn.Identity")),
        roi_pooling(7, 1 / 16, v2),
        view(-1),
        fc6_fc7(make, 8 * width * 49, hidden),
        fork(
            "ConcatTable", make.linear(hidden, classes + 1), make.linear(hidden, 4 * (classes + 1))
        ),
    )


def multipathnet_vgg(
    make: Maker,
    *,
    width: int = 2,
    mixed: int = 3,
    hidden: int = 5,
    box_tower: bool = True,
    normalized: bool = True,
) -> T7Object:
    """Return a MultiPathNet; without a box tower (``model_het=false``) both heads read the others.

    Maps that are not normalized (``model_conv345_norm=false``) are divided.
    """
    join_maps = pooled if normalized else divided
    layers = vgg16(make, width)
    conv3, conv4, conv5 = layers[:16], layers[16:23], layers[23:30]
    identity = node("nn.Identity")
    skips = sequential(
        *conv3,
        fork("ConcatTable", sequential(*conv4), identity),
        fork("ParallelTable", fork("ConcatTable", sequential(*conv5), identity), identity),
        node("nn.FlattenTable"),
    )
    channels = (8 * width, 8 * width, 4 * width)
    towers = [
        sequential(
            fork("ParallelTable", identity, node("nn.Select", dimension=1, index=region)),
            join_maps(channels[:maps]),
            make.conv(sum(channels[:maps]), mixed, 1),
            view(-1),
            fc6_fc7(make, mixed * 49, hidden),
        )
        for region, maps in ((1, 3), (2, 2), (3, 2), (4, 1), (2, 3))[: 4 + box_tower]
    ]
    halves = [
        node("nn.Narrow", dimension=2, index=1, length=4 * hidden),
        node("nn.Narrow", dimension=2, index=4 * hidden + 1, length=hidden),
    ]
    heads = [integral_heads(make, 4 * hidden, 4 * hidden, 4, "ConcatTable")]
    if box_tower:
        apart = integral_heads(make, 4 * hidden, hidden, 4, "ParallelTable")
        heads = [fork("ConcatTable", *halves), apart]
    return sequential(
        fork("ParallelTable", node("nn.NoBackprop", modules=[sequential(skips)]), identity),
        fork("ParallelTable", identity, node("nn.Foveal")),
        fork("ModelParallelTable", *towers),
        *heads,
        mode_switch(),
        box_norm(),
    )


def pooled(channels: Sequence[int]) -> T7Object:
    """Pool each map, normalize it as a whole, concatenate, and multiply by 1000."""
    maps = [
        sequential(
            fork("ParallelTable", node("nn.SelectTable", index=i), node("nn.Identity")),
            roi_pooling(7, scale),
            view(-1, n * 49),
            node("nn.Normalize", p=2),
            view(-1, n, 7, 7),
        )
        for i, (n, scale) in enumerate(zip(channels, (1 / 16, 1 / 8, 1 / 4), strict=False), 1)
    ]
    join = node("nn.JoinTable", dimension=2)
    return sequential(
        fork("ConcatTable", *maps), join, node("nn.MulConstant", constant_scalar=1000.0)
    )


def divided(channels: Sequence[int]) -> T7Object:
    """Pool each map, multiply it by a constant of its own, and concatenate."""
    maps = [
        sequential(
            fork("ParallelTable", node("nn.SelectTable", index=i), node("nn.Identity")),
            roi_pooling(7, scale),
            node("nn.MulConstant", constant_scalar=factor),
        )
        for i, scale, factor in ((1, 1 / 16, 1.0), (2, 1 / 8, 1 / 30), (3, 1 / 4, 1 / 200))
    ]
    return sequential(
        fork("ConcatTable", *maps[: len(channels)]), node("nn.JoinTable", dimension=2)
    )
