# SPDX-License-Identifier: Apache-2.0
"""The whole training of a ``mini`` cascade, in the order of the papers.

DeepMask learns to propose, SharpMask to refine the proposals of the frozen DeepMask, MultiPathNet
to classify those of SharpMask. Every stage resumes an interrupted run from its files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import foveate
from foveate.datasets import CocoDataset
from foveate.export.bundle_export import export_bundle
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    load_checkpoint,
    round_to_half,
    save_checkpoint,
)
from foveate.models.deepmask import DeepMask
from foveate.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Continuation
from foveate.models.multipathnet import MultiPathNet
from foveate.models.networks import multipathnet_mini, sharpmask_mini
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.progress import Progress
from foveate.training.loop import LoopOptions, Step, train_adamw
from foveate.training.mini.recipe import Recipe
from foveate.training.mini.regions import (
    build_regions,
    delta_statistics,
    images_of_each,
    multipathnet_step,
)
from foveate.training.mini.trunk import FrozenTrunk, load_imagenet
from foveate.training.mini.window_cache import build_caches
from foveate.training.mini.window_steps import deepmask_step, sharpmask_step
from foveate.training.resume import Origin, fingerprint, is_current, stamp

# Prefix of DeepMask's mask head, which SharpMask does not run and a bundle does not contain.
MASK_HEAD = "deepmask.mask."

# The best for the first 10 and 100 proposals of photographs that nothing was trained on.
CHOICE: dict[str, Any] = {"top_k": 250, "window_nms_iou": 0.8, "proposal_nms_iou": 0.6}

# The best of 0.3, 0.4 and 0.5 for the detections on the same photographs.
CLASS_NMS_IOU = 0.5

# Fields of the recipe that determine the two networks that ignore classes.
_OF_PROPOSALS = ("cache", "deepmask", "sharpmask", "mask_head", "initial_share", "mask_threshold")


def train_cascade(
    datasets: Sequence[CocoDataset],
    output: Path,
    recipe: Recipe,
    progress: Progress,
    extra_datasets: Sequence[CocoDataset] = (),
    initial: Cascade | None = None,
) -> Path:
    """Train the three networks, or return the result of an earlier run from the same data.

    Args:
        datasets: Training images; all data sets have the same classes.
        output: Directory of the run: caches, checkpoints of each network, the result.
        recipe: Hyperparameters of the training.
        progress: Called as the work progresses.
        extra_datasets: Further images, for the two networks that ignore classes.
        initial: ``mini`` to start from; by default only the ImageNet weights of the trunk.

    Returns:
        Path of the finished checkpoint; its calibration is that of ``initial``, if that has one.

    Raises:
        ModelError: The run was begun with other options or another ``initial``.
        DataError: No view shows an object.
    """
    result = output / "mini.safetensors"
    shown, network = [*datasets, *extra_datasets], _sharpmask(initial)
    start = _start(network)
    if initial is not None and initial.classifier is not None:
        start["initial_classifier"] = fingerprint(initial.classifier)
    names = (*_OF_PROPOSALS, "regions", "multipathnet", "seed")
    options = {name: asdict(recipe)[name] for name in names} | start
    origin = Origin(inputs=_inputs(shown), options=options)
    if is_current(result, origin):
        return result
    output.mkdir(parents=True, exist_ok=True)
    proposals = train_proposals(shown, output, recipe, progress, network)
    cascade = train_classifier(datasets, proposals, output, recipe, progress, initial)
    if initial is not None:
        info = replace(cascade.info, calibration=initial.info.calibration)
        cascade = replace(cascade, info=info)
    save_checkpoint(result, cascade)
    stamp(result, origin)
    return result


def _sharpmask(initial: Cascade | None) -> SharpMask | None:
    network = None if initial is None else initial.proposals
    assert network is None or isinstance(network, SharpMask)
    return network


def _start(initial: SharpMask | None) -> dict[str, str]:
    """Return the fingerprint of the start, without the head that a bundle does not contain."""
    return {} if initial is None else {"initial": fingerprint(initial, MASK_HEAD)}


def _inputs(datasets: Sequence[CocoDataset]) -> dict[str, object]:
    return {"the annotations or images": [dataset.digest for dataset in datasets]}


def train_proposals(
    datasets: Sequence[CocoDataset],
    output: Path,
    recipe: Recipe,
    progress: Progress,
    initial: SharpMask | None = None,
) -> Cascade:
    """Train DeepMask, then SharpMask on the frozen DeepMask: two checkpoints in ``output``.

    With ``initial``, the result is the mean of the trained weights and those of the start. A bundle
    does not contain DeepMask's mask head; it is trained alone, before the rest and after the mean.

    Raises:
        ModelError: The run was begun with other options or another ``initial``.
        DataError: No view shows an object.
    """
    finished, start = output / "sharpmask.safetensors", _start(initial)
    inputs = _inputs(datasets)
    options = {name: asdict(recipe)[name] for name in _OF_PROPOSALS} | start
    origin = Origin(inputs=inputs, options=options)
    if is_current(finished, origin):
        return load_checkpoint(finished)
    network = _begun(initial, recipe.seed)
    deepmask = network.deepmask
    result = Cascade(info=_proposals_info(datasets, recipe, start, network), proposals=network)
    trunk = FrozenTrunk(deepmask.trunk, 16)
    windows = build_caches(datasets, trunk, output, recipe.cache, progress)

    def train_part(file: str, network: nn.Module, step: Step, loop: LoopOptions, name: str) -> None:
        checkpoint = output / f"{file}.training"
        begun = Origin(inputs=inputs, options=start | {"cache": asdict(recipe.cache)})
        train_adamw(network, step, loop, checkpoint, task=name, progress=progress, origin=begun)

    def train_mask_head(file: str) -> None:
        with _mask_head_alone(deepmask):
            step = deepmask_step(deepmask, windows)
            train_part(file, deepmask, step, recipe.mask_head, "mask head")

    # DeepMask steps train both heads: a random mask head would spoil the weights of the start.
    if initial is not None:
        train_mask_head("mask_head")
    if initial is None or recipe.initial_share < 1:
        step = deepmask_step(deepmask, windows)
        train_part("deepmask", deepmask, step, recipe.deepmask, "DeepMask")
        step = sharpmask_step(network, windows)
        train_part("sharpmask", network, step, recipe.sharpmask, "SharpMask")
        if initial is not None and recipe.initial_share:
            average_with(network, initial, recipe.initial_share)
            train_mask_head("mask_head_of_mean")
    # The classifier is trained on the proposals of the networks as the checkpoint has them.
    round_to_half(network)
    alone = CascadeInfo(
        proposals="deepmask-mini",
        proposals_sizes=_sizes(network),
        mask_threshold=recipe.mask_threshold,
        **CHOICE,
    )
    save_checkpoint(output / "deepmask.safetensors", Cascade(info=alone, proposals=deepmask))
    save_checkpoint(finished, result)
    stamp(finished, origin)
    return result


def _proposals_info(
    datasets: Sequence[CocoDataset], recipe: Recipe, start: dict[str, str], network: SharpMask
) -> CascadeInfo:
    training = {
        "images": " + ".join(str(len(dataset)) for dataset in datasets),
        "windows": f"{recipe.cache.views_per_image} views of each image",
        "DeepMask": f"{recipe.deepmask.steps} steps",
        "SharpMask": f"{recipe.sharpmask.steps} steps",
        **start,
    }
    return CascadeInfo(
        proposals="sharpmask-mini",
        proposals_sizes=_sizes(network),
        mask_threshold=recipe.mask_threshold,
        mask_scoring=True,
        **CHOICE,
        training=training,
    )


def _sizes(network: SharpMask) -> dict[str, int]:
    return {"vector": network.deepmask.embed.out_channels, "border": network.deepmask.border}


def _begun(initial: SharpMask | None, seed: int) -> SharpMask:
    """Return the network that the training of the proposals starts from."""
    torch.manual_seed(seed)
    network = sharpmask_mini(**({} if initial is None else _sizes(initial)))
    assert isinstance(network.deepmask.trunk, EfficientNetLite0)
    if initial is None:
        load_imagenet(network.deepmask.trunk)
    else:
        network.load_state_dict(initial.state_dict())
    # The caches must contain the features of the trunk that a checkpoint contains.
    round_to_half(network.deepmask.trunk)
    return network


def average_with(network: SharpMask, initial: SharpMask, share: float) -> None:
    """Move the weights of a network, in place, toward those that its training started from.

    On images unlike those of the training, the mean is often better than either: Wortsman et al.,
    "Robust fine-tuning of zero-shot models" (CVPR 2022). The mask head, which started anew, stays.
    ``share`` is that of the weights of the start.
    """
    before = initial.state_dict()
    with torch.no_grad():
        for name, weights in network.state_dict().items():
            if not name.startswith(MASK_HEAD):
                weights.lerp_(before[name], share)


@contextmanager
def _mask_head_alone(deepmask: DeepMask) -> Iterator[None]:
    """Freeze everything except the mask head."""
    learning = [parameter for parameter in deepmask.parameters() if parameter.requires_grad]
    deepmask.requires_grad_(False)
    deepmask.mask.requires_grad_(True)
    try:
        yield
    finally:
        deepmask.mask.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)


def train_classifier(
    datasets: Sequence[CocoDataset],
    proposals: Cascade,
    output: Path,
    recipe: Recipe,
    progress: Progress,
    initial: Cascade | None = None,
) -> Cascade:
    """Train MultiPathNet on the proposals of a trained SharpMask, from ``initial`` if it is given.

    All data sets have the same classes. If ``initial`` has others, the layers that predict classes
    and boxes start anew.
    """
    torch.manual_seed(recipe.seed)
    class_names = datasets[0].class_names
    network = multipathnet_mini(classes=len(class_names))
    begun = _start_from(network, initial, class_names)
    whole = nn.Sequential(deepmask_of(proposals.proposals).trunk, network.trunk)
    trunk = FrozenTrunk(whole, 32)
    inputs = _inputs(datasets) | {
        "the proposals": fingerprint(proposals.proposals, MASK_HEAD),
        "the trunk": trunk.digest,
    }
    options = {"regions": asdict(recipe.regions)}
    # MultiPathNet must learn from the proposals that it will get: those of the deployed pipeline,
    # with its letterbox, rounding and suppression. ONNX Runtime is also 4 times as fast as PyTorch.
    bundle = export_bundle(proposals, output / "proposals", overwrite=True)
    regions, origin = [], Origin(inputs=inputs, options=options)
    shares = images_of_each(datasets, recipe.regions.images)
    with foveate.load(bundle.root) as pipeline:
        for number, (dataset, images) in enumerate(zip(datasets, shares, strict=True)):
            regions += build_regions(
                dataset,
                trunk,
                lambda image: pipeline.propose(image).boxes,
                bundle.manifest,
                output / f"regions-{number}",
                origin,
                replace(recipe.regions, images=images),
                progress,
            )
    statistics = delta_statistics(regions)
    train_adamw(
        network,
        multipathnet_step(network, regions, statistics),
        recipe.multipathnet,
        output / "multipathnet.training",
        task="MultiPathNet",
        progress=progress,
        origin=Origin(inputs=inputs, options=options | begun),
    )
    learned = f"{recipe.multipathnet.steps} steps on proposals of {len(regions)} images"
    info = replace(
        proposals.info,
        classifier="multipathnet-mini",
        class_names=class_names,
        delta_mean=statistics.mean,
        delta_std=statistics.std,
        class_nms_iou=CLASS_NMS_IOU,
        training={**proposals.info.training, "MultiPathNet": learned, "seed": recipe.seed},
    )
    return Cascade(info=info, proposals=proposals.proposals, classifier=network)


def _start_from(
    network: MultiPathNet, initial: Cascade | None, class_names: tuple[str, ...]
) -> dict[str, str]:
    """Load the weights that a classifier starts from; return their fingerprint if there are any."""
    if initial is None or initial.classifier is None:
        assert isinstance(network.trunk, EfficientNetLite0Continuation)
        load_imagenet(network.trunk)
        round_to_half(network.trunk)
        return {}
    heads = () if initial.info.class_names == class_names else ("class_heads.", "box_head.")
    given = initial.classifier.state_dict()
    shared = {name: value for name, value in given.items() if not name.startswith(heads)}
    network.load_state_dict({**network.state_dict(), **shared})
    return {"initial": fingerprint(initial.classifier)}
