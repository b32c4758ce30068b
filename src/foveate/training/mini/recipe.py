# SPDX-License-Identifier: Apache-2.0
"""The whole training of a `mini` cascade, in the order of the papers.

DeepMask learns to propose, SharpMask to refine what the frozen DeepMask proposes, MultiPathNet to
name SharpMask's proposals. Every step finds what an interrupted run left and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import foveate
from foveate.datasets import CocoDataset
from foveate.errors import DataError
from foveate.export.to_onnx.bundle_export import export_bundle
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
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.training.loop import LoopOptions, Step, run
from foveate.training.mini.averaging import MASK_HEAD, average_with
from foveate.training.mini.deepmask import deepmask_step
from foveate.training.mini.frozen_trunk import FrozenTrunk
from foveate.training.mini.imagenet import load_imagenet
from foveate.training.mini.multipathnet import delta_statistics, multipathnet_step
from foveate.training.mini.region_cache import RegionOptions, build_regions
from foveate.training.mini.sharpmask import sharpmask_step
from foveate.training.mini.window_builder import build_cache
from foveate.training.mini.window_cache import CacheOptions, WindowCache
from foveate.training.origin import Origin, is_current, stamp
from foveate.training.resume import weights_digest

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with the step's name, what is done of it, its length, and running losses."""


_FULL_STEPS = {"deepmask": 8_000, "mask_head": 800, "sharpmask": 5_000, "multipathnet": 2_500}
_FULL_IMAGES = 2_000
_LEAST_STEPS = {"deepmask": 100, "mask_head": 20, "sharpmask": 100, "multipathnet": 100}
_LEAST_VIEWS = 120

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

    @classmethod
    def sized(cls, images: int) -> Recipe:
        """Give the recipe for a number of training images.

        From 2000 on it is the full one. Below, steps are fewer in proportion, but at least 100 a
        network (20 of the mask head alone), and there are as many views as make 120 in all.
        """
        share, recipe = min(1.0, images / _FULL_IMAGES), cls()
        steps = {
            name: max(_LEAST_STEPS[name], round(share * full)) for name, full in _FULL_STEPS.items()
        }
        views = max(recipe.cache.views_per_image, -(-_LEAST_VIEWS // max(1, images)))
        return replace(recipe, cache=replace(recipe.cache, views_per_image=views)).stepped(steps)

    def stepped(self, steps: Mapping[str, int]) -> Recipe:
        """Give a copy with other numbers of steps, by the attribute's name."""
        loops = {name: getattr(self, name) for name in steps}
        return replace(
            self,
            **{
                name: replace(loop, steps=steps[name], warm_up=min(100, -(-steps[name] // 8)))
                for name, loop in loops.items()
            },
        )

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
    extra_datasets: Sequence[CocoDataset] = (),
    initial: Cascade | None = None,
) -> Path:
    """Train the three networks, or find those that were trained from the same before.

    Args:
        dataset: the training images.
        output: directory of the run: caches, checkpoints of each network, the result.
        recipe: the numbers.
        report: hears of the progress.
        extra_datasets: more images, for the two networks that regard no classes.
        initial: a `mini` to go on from; by default the trunk's ImageNet weights alone.

    Returns:
        The finished checkpoint; its calibration is that of `initial`, if that has one.

    Raises:
        ModelError: the run was begun with other options or another `initial`.
        DataError: no view shows an object.
    """
    result = output / "mini.safetensors"
    start = _start(_sharpmask(initial))
    if initial is not None and initial.classifier is not None:
        start["initial_classifier"] = weights_digest(initial.classifier)
    inputs = _inputs([dataset, *extra_datasets], recipe) | {"the regions": asdict(recipe.regions)}
    names = ("deepmask", "sharpmask", "mask_head", "multipathnet", "mask_threshold", "seed")
    origin = Origin(inputs=inputs, options={name: asdict(recipe)[name] for name in names} | start)
    if is_current(result, origin):
        return result
    output.mkdir(parents=True, exist_ok=True)
    proposals = train_proposals(
        [dataset, *extra_datasets], output, recipe, report, _sharpmask(initial)
    )
    cascade = train_classifier(dataset, proposals, output, recipe, report, initial)
    if initial is not None:
        info = replace(cascade.info, calibration=initial.info.calibration)
        cascade = replace(cascade, info=info)
    save_checkpoint(result, cascade)
    stamp(result, origin)
    return result


def _sharpmask(initial: Cascade | None) -> SharpMask | None:
    if initial is None:
        return None
    assert isinstance(initial.proposals, SharpMask)
    return initial.proposals


def _start(initial: SharpMask | None) -> dict[str, str]:
    """Return the digest of what a run begins with, without the head that a bundle does not hold."""
    return {} if initial is None else {"initial": weights_digest(initial, MASK_HEAD)}


def _inputs(datasets: Sequence[CocoDataset], recipe: Recipe) -> dict[str, object]:
    """Name all that the two networks that regard no classes are trained on."""
    return {
        "the annotations or images": [dataset.digest for dataset in datasets],
        "the windows": asdict(recipe.cache),
    }


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
        ModelError: the run was begun with other options or another `initial`.
        DataError: no view shows an object.
    """
    finished, start = output / "sharpmask.safetensors", _start(initial)
    inputs = _inputs(datasets, recipe)
    loops = {name: asdict(getattr(recipe, name)) for name in ("deepmask", "sharpmask", "mask_head")}
    origin = Origin(
        inputs=inputs, options={**loops, "mask_threshold": recipe.mask_threshold, **start}
    )
    if is_current(finished, origin):
        return load_checkpoint(finished)
    network = _begun(initial, recipe.seed)
    deepmask = network.deepmask
    images = " + ".join(str(len(dataset)) for dataset in datasets)
    training = {
        "images": images,
        "windows": f"{recipe.cache.views_per_image} views of each image",
        "DeepMask": f"{recipe.deepmask.steps} steps",
        "SharpMask": f"{recipe.sharpmask.steps} steps",
        **start,
    }
    info = CascadeInfo(
        proposals="sharpmask-mini", mask_threshold=recipe.mask_threshold, training=training
    )
    result = Cascade(info=info, proposals=network)
    windows = _windows(datasets, FrozenTrunk(deepmask.trunk, 16), output, recipe, report)

    def train_part(file: str, network: nn.Module, step: Step, loop: LoopOptions, name: str) -> None:
        begun = Origin(inputs=inputs, options=start)
        run(network, step, loop, output / f"{file}.training", _losses(report, name), begun)

    def train_mask_head(file: str) -> None:
        with _mask_head_alone(deepmask):
            step = deepmask_step(deepmask, windows)
            train_part(file, deepmask, step, recipe.mask_head, "mask head")

    if initial is not None:
        train_mask_head("mask_head")
    step = deepmask_step(deepmask, windows)
    train_part("deepmask", deepmask, step, recipe.deepmask, "DeepMask")
    step = sharpmask_step(network, windows)
    train_part("sharpmask", network, step, recipe.sharpmask, "SharpMask")
    if initial is not None:
        average_with(network, initial)
        train_mask_head("mask_head_of_mean")
    # The classifier is trained on the proposals of the networks as the checkpoint has them.
    round_to_half(network)
    alone = CascadeInfo(proposals="deepmask-mini", mask_threshold=recipe.mask_threshold)
    save_checkpoint(output / "deepmask.safetensors", Cascade(info=alone, proposals=deepmask))
    save_checkpoint(finished, result)
    stamp(finished, origin)
    return result


def _begun(initial: SharpMask | None, seed: int) -> SharpMask:
    """Make the network that the training of the proposals begins with."""
    torch.manual_seed(seed)
    network = sharpmask_mini()
    assert isinstance(network.deepmask.trunk, EfficientNetLite0)
    if initial is None:
        load_imagenet(network.deepmask.trunk)
    else:
        network.load_state_dict(initial.state_dict())
    round_to_half(network.deepmask.trunk)
    return network


def _windows(
    datasets: Sequence[CocoDataset],
    trunk: FrozenTrunk,
    output: Path,
    recipe: Recipe,
    report: Report,
) -> WindowCache:
    directories = [output / f"windows-{number}" for number in range(len(datasets))]
    for dataset, directory in zip(datasets, directories, strict=True):
        build_cache(dataset, trunk, directory, recipe.cache, _counted(report, "windows"))
    windows = WindowCache(*directories)
    if not len(windows.fine_masks):
        raise DataError(
            f"none of {len(windows.scores)} views shows an object in the middle of a window",
            file=datasets[0].file,
            remedy="raise --views, or annotate more objects",
        )
    return windows


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


def train_classifier(
    dataset: CocoDataset,
    proposals: Cascade,
    output: Path,
    recipe: Recipe,
    report: Report,
    initial: Cascade | None = None,
) -> Cascade:
    """Train MultiPathNet on the proposals of a trained SharpMask, or on from that of `initial`.

    Where that has other classes, the layers that name them and correct their boxes begin anew.
    """
    torch.manual_seed(recipe.seed)
    network = multipathnet_mini(classes=len(dataset.class_names))
    begun = _start_from(network, initial, dataset.class_names)
    trunk = FrozenTrunk(network.trunk, 32)
    inputs: dict[str, object] = {
        "the annotations or images": dataset.digest,
        "the proposals": weights_digest(proposals.proposals, MASK_HEAD),
        "the trunk": trunk.digest,
        "the regions": asdict(recipe.regions),
    }
    bundle = export_bundle(proposals, output / "proposals", overwrite=True)
    pipeline = foveate.load(bundle.root)

    def propose(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pipeline.propose(image).boxes

    regions = build_regions(
        dataset,
        trunk,
        propose,
        output / "regions",
        Origin(inputs=inputs),
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
        Origin(inputs=inputs, options=begun),
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
            f"{len(regions)} images",
            "seed": recipe.seed,
        },
    )
    return Cascade(info=info, proposals=proposals.proposals, classifier=network)


def _start_from(
    network: MultiPathNet, initial: Cascade | None, class_names: tuple[str, ...]
) -> dict[str, str]:
    """Give a classifier the weights that it begins with; return their digest, if some were given."""
    if initial is None or initial.classifier is None:
        assert isinstance(network.trunk, EfficientNetLite0)
        load_imagenet(network.trunk)
        round_to_half(network.trunk)
        return {}
    heads = () if initial.info.class_names == class_names else ("class_heads.", "box_head.")
    given = initial.classifier.state_dict()
    shared = {name: value for name, value in given.items() if not name.startswith(heads)}
    network.load_state_dict({**network.state_dict(), **shared})
    return {"initial": weights_digest(initial.classifier)}


def _counted(report: Report, name: str) -> Callable[[int, int], None]:
    return lambda done, total: report(name, done, total, {})


def _losses(report: Report, name: str) -> Callable[[int, int, dict[str, float]], None]:
    return lambda done, total, losses: report(name, done, total, losses)
