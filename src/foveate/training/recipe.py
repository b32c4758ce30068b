# SPDX-License-Identifier: Apache-2.0
"""The whole training of a `mini` cascade, in the order of the papers.

DeepMask learns to propose, SharpMask to refine what the frozen DeepMask proposes, MultiPathNet to
name SharpMask's proposals. Every step finds what an interrupted run left and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import foveate
from foveate.errors import ModelError
from foveate.export.bundle_export import export_bundle
from foveate.models.build_classifiers import multipathnet_mini
from foveate.models.build_proposals import sharpmask_mini
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    load_checkpoint,
    round_to_half,
    save_checkpoint,
)
from foveate.models.deepmask import DeepMask
from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.sharpmask import SharpMask
from foveate.training.averaging import MASK_HEAD, average_with
from foveate.training.dataset import CocoDataset
from foveate.training.deepmask import deepmask_step
from foveate.training.frozen_trunk import FrozenTrunk
from foveate.training.imagenet import load_imagenet
from foveate.training.loop import LoopOptions, run
from foveate.training.multipathnet import delta_statistics, multipathnet_step
from foveate.training.region_cache import RegionOptions, build_regions
from foveate.training.resume import weights_digest
from foveate.training.sharpmask import sharpmask_step
from foveate.training.window_builder import build_cache
from foveate.training.window_cache import CacheOptions, WindowCache

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with the step's name, what is done of it, its length, and running losses."""


MASK_THRESHOLD = -0.5
"""Logit from which a pixel is the object's: of 0, -0.5 and -1 the best on held-out scenes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All numbers of a training; the model card lists those of the shipped `mini`."""

    seed: int = 0
    cache: CacheOptions = field(default_factory=CacheOptions)
    deepmask: LoopOptions = field(default_factory=lambda: LoopOptions(steps=8_000))
    sharpmask: LoopOptions = field(default_factory=lambda: LoopOptions(steps=5_000))
    mask_head: LoopOptions = field(
        default_factory=lambda: LoopOptions(steps=800, learning_rate=2e-3)
    )
    mask_threshold: float = MASK_THRESHOLD
    regions: RegionOptions = field(default_factory=RegionOptions)
    multipathnet: LoopOptions = field(default_factory=lambda: LoopOptions(steps=2_500))

    def seeded(self, seed: int) -> Recipe:
        """Give a copy in which every draw follows `seed`."""
        return replace(
            self,
            seed=seed,
            cache=replace(self.cache, seed=seed),
            deepmask=replace(self.deepmask, seed=seed),
            sharpmask=replace(self.sharpmask, seed=seed),
            mask_head=replace(self.mask_head, seed=seed),
            multipathnet=replace(self.multipathnet, seed=seed),
        )


def train_cascade(
    dataset: CocoDataset,
    output: Path,
    recipe: Recipe,
    report: Report,
    things: Sequence[CocoDataset] = (),
    initial: SharpMask | None = None,
) -> Path:
    """Train the three networks.

    Args:
        dataset: the training pictures.
        output: directory of the run: caches, checkpoints of each network, the result.
        recipe: the numbers.
        report: hears of the progress.
        things: more pictures, for the two networks that regard no classes.
        initial: what these two go on from; by default the trunk's ImageNet weights alone.

    Returns:
        The finished checkpoint, its scores not calibrated.

    Raises:
        ModelError: the run was begun with another `initial`.
    """
    result = output / "mini.safetensors"
    if _finished(result, _start(initial)) is not None:
        return result
    output.mkdir(parents=True, exist_ok=True)
    proposals = train_proposals([dataset, *things], output, recipe, report, initial)
    cascade = train_classifier(dataset, proposals, output, recipe, report)
    save_checkpoint(result, cascade)
    return result


def train_proposals(
    datasets: Sequence[CocoDataset],
    output: Path,
    recipe: Recipe,
    report: Report,
    initial: SharpMask | None = None,
) -> Cascade:
    """Train DeepMask, then SharpMask on the frozen DeepMask: two checkpoints in `output`.

    With `initial`, the result is the mean of what was trained and of what it began with. A bundle
    does not hold DeepMask's mask head, so it learns alone, before the rest and after the mean.

    Raises:
        ModelError: the run was begun with another `initial`.
    """
    finished, start = output / "sharpmask.safetensors", _start(initial)
    if (cascade := _finished(finished, start)) is not None:
        return cascade
    torch.manual_seed(recipe.seed)
    network = sharpmask_mini()
    deepmask = network.deepmask
    assert isinstance(deepmask.trunk, EfficientNetLite0)
    if initial is None:
        load_imagenet(deepmask.trunk)
    else:
        network.load_state_dict(initial.state_dict())
    round_to_half(deepmask.trunk)
    pictures = " + ".join(str(len(dataset)) for dataset in datasets)
    training = {
        "pictures": pictures,
        "windows": f"{recipe.cache.views_per_picture} views of each picture",
        "DeepMask": f"{recipe.deepmask.steps} steps",
        "SharpMask": f"{recipe.sharpmask.steps} steps",
        **start,
    }
    info = CascadeInfo(
        proposals="sharpmask-mini", mask_threshold=recipe.mask_threshold, training=training
    )
    result = Cascade(info=info, proposals=network)
    trunk = FrozenTrunk(deepmask.trunk, 16)
    directories = [output / f"windows-{number}" for number in range(len(datasets))]
    for dataset, directory in zip(datasets, directories, strict=True):
        build_cache(dataset, trunk, directory, recipe.cache, _counted(report, "windows"))
    windows = WindowCache(*directories)

    def train_mask_head(file: str) -> None:
        with _mask_head_alone(deepmask):
            step, losses = deepmask_step(deepmask, windows), _losses(report, "mask head")
            run(deepmask, step, recipe.mask_head, output / file, losses, start)

    if initial is not None:
        train_mask_head("mask_head.training")
    step, losses = deepmask_step(deepmask, windows), _losses(report, "DeepMask")
    run(deepmask, step, recipe.deepmask, output / "deepmask.training", losses, start)
    step, losses = sharpmask_step(network, windows), _losses(report, "SharpMask")
    run(network, step, recipe.sharpmask, output / "sharpmask.training", losses, start)
    if initial is not None:
        average_with(network, initial)
        train_mask_head("mask_head_of_mean.training")
    alone = CascadeInfo(proposals="deepmask-mini", mask_threshold=recipe.mask_threshold)
    save_checkpoint(output / "deepmask.safetensors", Cascade(info=alone, proposals=deepmask))
    save_checkpoint(finished, result)
    return result


@contextmanager
def _mask_head_alone(deepmask: DeepMask) -> Iterator[None]:
    """Let nothing but the mask head learn, as long as it lasts."""
    learning = [parameter for parameter in deepmask.parameters() if parameter.requires_grad]
    deepmask.requires_grad_(False)
    deepmask.mask.requires_grad_(True)
    try:
        yield
    finally:
        deepmask.mask.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)


def _start(initial: SharpMask | None) -> dict[str, str]:
    """Return the digest of what a run begins with, without the head that a bundle does not hold."""
    return {} if initial is None else {"initial": weights_digest(initial, MASK_HEAD)}


def _finished(file: Path, start: Mapping[str, str]) -> Cascade | None:
    """Read a checkpoint of the run if it is there, and began as it is to begin now."""
    if not file.exists():
        return None
    cascade = load_checkpoint(file)
    found, wanted = (one.get("initial", "none") for one in (cascade.info.training, start))
    if found != wanted:
        raise ModelError(
            f"the run was begun with the initial weights {found}, not {wanted}",
            file=file,
            remedy="go on with the same --initial, or choose another --output",
        )
    return cascade


def train_classifier(
    dataset: CocoDataset, proposals: Cascade, output: Path, recipe: Recipe, report: Report
) -> Cascade:
    """Train MultiPathNet on the proposals of a trained SharpMask."""
    torch.manual_seed(recipe.seed)
    network = multipathnet_mini(classes=len(dataset.class_names))
    assert isinstance(network.trunk, EfficientNetLite0)
    load_imagenet(network.trunk)
    round_to_half(network.trunk)
    bundle = export_bundle(proposals, output / "proposals", overwrite=True)
    pipeline = foveate.load(bundle.root)

    def propose(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pipeline.propose(picture).boxes

    regions = build_regions(
        dataset,
        FrozenTrunk(network.trunk, 32),
        propose,
        output / "regions",
        recipe.regions,
        _counted(report, "regions"),
    )
    mean, std = delta_statistics(regions)
    run(
        network,
        multipathnet_step(network, regions, mean, std),
        recipe.multipathnet,
        output / "multipathnet.training",
        _losses(report, "MultiPathNet"),
    )
    info = replace(
        proposals.info,
        classifier="multipathnet-mini",
        class_names=dataset.class_names,
        delta_mean=tuple(mean.tolist()),
        delta_std=tuple(std.tolist()),
        training={
            **proposals.info.training,
            "MultiPathNet": f"{recipe.multipathnet.steps} steps on proposals of "
            f"{len(regions)} pictures",
            "seed": recipe.seed,
        },
    )
    return Cascade(info=info, proposals=proposals.proposals, classifier=network)


def _counted(report: Report, name: str) -> Callable[[int, int], None]:
    return lambda done, total: report(name, done, total, {})


def _losses(report: Report, name: str) -> Callable[[int, int, dict[str, float]], None]:
    return lambda done, total, losses: report(name, done, total, losses)
