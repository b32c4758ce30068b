# SPDX-License-Identifier: Apache-2.0
"""Each network learns eight images by heart: what is wired up can be trained.

The images are photographs with a colored shape pasted on each; the networks are narrow, and the
optimizer is Adam without anything else. The bounds are twice what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.samples import paths
from tests.samples.timm_models import import_timm
from torch import Tensor, nn

from foveate.bundle import Bundle
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import DeepMask, MultiPathNet, SharpMask, build
from foveate.models.losses import box_loss, integral_loss, mask_loss, score_loss
from foveate.models.multipathnet import INTEGRAL_THRESHOLDS
from foveate.models.sharpmask import deepmask_of
from foveate.models.trunk import Continuation, Trunk

IMAGES = 8
NARROW: dict[str, int | str] = {"neck": 16, "vector": 64, "score_hidden": 32}
RESNET: dict[str, int | str] = {"width": 8, **NARROW}
REFINED: dict[str, int | str] = {**RESNET, "km": 64, "ks": 64}
Loss = Callable[[], Tensor]


class Shape(NamedTuple):
    """A shape on an image: disc (1), rectangle (2) or triangle (3), and its box in pixels."""

    label: int
    box: tuple[float, float, float, float]


def draw_shape(image: NDArray[np.uint8], shape: Shape, color: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = (round(side) for side in shape.box)
    if shape.label == 1:
        center, axes = ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2)
        cv2.ellipse(image, center, axes, 0, 0, 360, color, -1)
        return
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    if shape.label == 3:
        corners = [((x0 + x1) // 2, y0), (x1, y1), (x0, y1)]
    cv2.fillPoly(image, [np.array(corners)], color)


def images_of(side: int, shapes: list[Shape]) -> tuple[Tensor, Tensor]:
    """Paste a shape on a crop of a photograph each: uint8 (8, S, S, 3) RGB, and masks (8, S, S)."""
    rng = np.random.default_rng(0)
    files = sorted(paths.IMAGES.glob("*.jpg"))
    images = np.zeros((IMAGES, side, side, 3), np.uint8)
    masks = np.zeros((IMAGES, side, side), np.uint8)
    for index, shape in enumerate(shapes):
        photograph = cv2.imread(str(files[index % len(files)]), cv2.IMREAD_COLOR_RGB)
        assert photograph is not None
        images[index] = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)
        draw_shape(images[index], shape, tuple(rng.integers(0, 256, 3).tolist()))
        draw_shape(masks[index], shape, (1,))
    return torch.from_numpy(images), torch.from_numpy(masks).float()


def centerd_shapes(side: int, objects: list[bool]) -> list[Shape]:
    """One shape a window: in its middle where there is an object, else at its corner."""
    rng = np.random.default_rng(1)
    shapes = []
    for index, centerd in enumerate(objects):
        extent = rng.uniform(0.3, 0.45, 2) * side
        middle = np.full(2, side / 2 if centerd else side / 5)
        box = np.concatenate([middle - extent / 2, middle + extent / 2])
        shapes.append(Shape(1 + index % 3, (box[0], box[1], box[2], box[3])))
    return shapes


def minimize(network: nn.Module, loss: Loss, steps: int, rate: float) -> float:
    """Adam without dropout, at a rate that falls to 0; gives the loss that is reached."""
    network.eval()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return loss().item()


def load_mini_trunk(trunk: nn.Module) -> Trunk:
    """Give the shipped weights to a `mini` network's trunk, whose features are constant at random.

    Returns:
        The shipped trunk of the proposals, which that of the classifier continues.
    """
    cascade = cascade_from_bundle(Bundle.open("mini"))
    assert cascade.classifier is not None
    proposals = deepmask_of(cascade.proposals).trunk
    shipped = (
        cascade.classifier if isinstance(trunk, Continuation) else deepmask_of(cascade.proposals)
    )
    trunk.load_state_dict(shipped.trunk.state_dict())
    return proposals


def is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def deepmask_loss(network: DeepMask) -> Loss:
    objects = [index % 2 == 0 for index in range(IMAGES)]
    side = network.patch_side
    images, masks = images_of(side, centerd_shapes(side, objects))
    patches = network.trunk.normalization(images)
    labels = window_labels(masks, network.context, network.supervised_side)
    score_labels = torch.tensor(objects).float()

    def features() -> Tensor:
        return network.patch_features(patches)[16]

    fixed = features() if is_frozen(network.trunk) else None

    def loss() -> Tensor:
        scores, vectors = network.windows(features() if fixed is None else fixed)
        logits = network.supervised_masks(vectors.flatten(1))
        held = score_labels > 0  # a window without an object has no mask
        masks = held.sum() * mask_loss(logits[held], labels[held])
        return masks + len(held) / 32 * score_loss(scores.flatten(), score_labels)

    return loss


def sharpmask_loss(network: SharpMask) -> Loss:
    deepmask = network.deepmask
    side = deepmask.patch_side
    images, masks = images_of(side, centerd_shapes(side, [True] * IMAGES))
    labels = window_labels(masks, deepmask.context, deepmask.window)
    with torch.no_grad():
        features = deepmask.patch_features(deepmask.trunk.normalization(images))
        vectors = deepmask.vectors(features[16]).flatten(1)
    return lambda: mask_loss(network.refine(vectors, network.horizontals(features)), labels)


def window_labels(masks: Tensor, context: int, side: int) -> Tensor:
    """Crop masks (N, S, S) to the window, and average them to (N, side, side)."""
    last = masks.shape[1] - context
    window = masks[:, context:last, context:last]
    return nn.functional.interpolate(window[:, None], (side, side), mode="area").squeeze(1)


def detector_loss(network: MultiPathNet, shared: Trunk | None) -> Loss:
    """Four boxes an image, two about its shape and two elsewhere; ``shared`` is what it continues."""
    rng = np.random.default_rng(2)
    shapes = []
    for index in range(IMAGES):
        x, y = rng.uniform(16, 48, 2).tolist()
        width, height = rng.uniform(36, 64, 2).tolist()
        shapes.append(Shape(1 + index % 3, (x, y, x + width, y + height)))
    images, _ = images_of(128, shapes)
    boxes, labels, targets = zip(*(regions_of(shape, rng) for shape in shapes), strict=True)
    normalized = (shared or network.own_trunk).normalization(images)

    def pooled() -> list[Tensor]:
        maps = network.features(normalized if shared is None else shared(normalized))
        parts = [
            network.pool({s: m[i : i + 1] for s, m in maps.items()}, box)
            for i, box in enumerate(boxes)
        ]
        return [torch.cat(tower) for tower in zip(*parts, strict=True)]

    all_labels = torch.cat(labels, 1)[: len(network.class_heads)]
    all_targets = torch.cat(targets)
    fixed = pooled() if is_frozen(network.trunk) else None

    def loss() -> Tensor:
        class_logits, deltas = network.logits(fixed or pooled())
        return integral_loss(class_logits, all_labels) + box_loss(
            deltas, all_targets, all_labels[0]
        )

    return loss


def regions_of(shape: Shape, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (4, 4), labels of each integral head (6, 4) and normalized targets (4, 4)."""
    truth = np.array(shape.box)
    size = truth[2:] - truth[:2]
    offset = rng.uniform(-0.12, 0.12, (2, 2)) * size
    near = np.concatenate([truth[:2] + offset, truth[2:] + offset], axis=1)
    corner = rng.uniform(0, 90, (2, 2))
    boxes = np.concatenate([near, np.concatenate([corner, corner + 24], axis=1)])
    low, high = np.maximum(boxes[:, :2], truth[:2]), np.minimum(boxes[:, 2:], truth[2:])
    shared = np.clip(high - low, 0, None).prod(1)
    overlap = shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + size.prod() - shared)
    labels = np.where(overlap >= np.array(INTEGRAL_THRESHOLDS)[:, None], shape.label, 0)
    targets = np.zeros((4, 4))
    targets[:2, :2] = -offset / size / 0.1
    return (
        torch.from_numpy(boxes).float(),
        torch.from_numpy(labels).long(),
        torch.from_numpy(targets).float(),
    )


def network_and_loss(name: str, sizes: dict[str, int | str]) -> tuple[nn.Module, Loss]:
    network = build(name, **sizes)
    trunk = (network.deepmask if isinstance(network, SharpMask) else network).get_submodule("trunk")
    shipped = load_mini_trunk(trunk) if name.endswith("mini") else None
    if isinstance(network, DeepMask):
        return network, deepmask_loss(network)
    if isinstance(network, SharpMask):
        return network, sharpmask_loss(network)
    assert isinstance(network, MultiPathNet)
    return network, detector_loss(network, shipped)


@pytest.mark.parametrize(
    ("name", "sizes", "steps", "rate", "bound"),
    [
        ("deepmask-mini", {}, 25, 3e-3, 0.24),
        ("deepmask-resnet50", RESNET, 25, 3e-3, 0.8),
        ("deepmask-vgg", {**RESNET, "width": 4}, 25, 3e-3, 0.74),
        ("sharpmask-mini", {}, 25, 1e-2, 0.09),
        ("multipathnet-mini", {"classes": 3}, 25, 3e-3, 0.01),
        (
            "multipathnet-vgg16",
            {"classes": 3, "width": 8, "mixed": 16, "hidden": 64},
            25,
            1e-3,
            0.06,
        ),
        ("multipathnet-resnet18", {"classes": 3, "width": 8}, 50, 2e-3, 0.3),
        ("fast-rcnn-vgg16", {"classes": 3, "width": 8, "hidden": 64}, 50, 2e-3, 0.1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("sharpmask-resnet50", REFINED, 50, 3e-3, 0.32),
                ("sharpmask-resnet50", {**REFINED, "form": "paper"}, 50, 3e-3, 0.3),
                ("multipathnet-resnet50", {"classes": 3, "width": 8}, 50, 2e-3, 0.36),
                ("deepmask-timm:mobilenetv3_small_050", NARROW, 25, 3e-3, 0.84),
                ("deepmask-timm:convnext_atto", NARROW, 25, 1e-3, 1.2),
                ("deepmask-timm:resnet18", NARROW, 25, 1e-3, 1.6),
                ("sharpmask-timm:convnext_atto", {**NARROW, "km": 64, "ks": 64}, 50, 3e-3, 0.28),
                (
                    "multipathnet-timm:mobilenetv3_small_050",
                    {"classes": 3, "mixed": 16, "hidden": 64},
                    *(25, 1e-3, 0.46),
                ),
            )
        ),
    ],
)
def test_a_network_learns_eight_images(
    name: str, sizes: dict[str, int | str], steps: int, rate: float, bound: float
) -> None:
    if "timm:" in name:
        import_timm()
    torch.manual_seed(0)
    network, loss = network_and_loss(name, sizes)
    assert minimize(network, loss, steps, rate) < bound
