# SPDX-License-Identifier: Apache-2.0
"""The published plans: which sampler, schedule and losses belong to which network."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil
from typing import Any

from foveate.datasets import CocoDataset
from foveate.errors import ModelError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import INTEGRAL_THRESHOLDS, MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.training.origin import Origin
from foveate.training.original.deepmask import DeepMaskTask
from foveate.training.original.multipathnet import MultiPathNetTask, RegionBatch, RegionSource
from foveate.training.original.plan import Plan
from foveate.training.original.schedules import (
    DEEPMASK,
    DEEPMASK_2015,
    FAST_RCNN,
    MULTIPATHNET,
    SHARPMASK,
    SHARPMASK_ORIGINAL,
    Schedule,
)
from foveate.training.original.sharpmask import SharpMaskTask
from foveate.training.original.window_batches import WindowBatch, WindowSource
from foveate.training.sampling import (
    BoxStatistics,
    MaskSampler,
    MaskSamplerOptions,
    ProposalTable,
    RegionSampler,
    RegionSamplerOptions,
    ScoreSampler,
    ScoreSamplerOptions,
    WindowOptions,
)


def published_schedule(name: str, legacy: LegacyOptions) -> Schedule:
    """Look a network's schedule up.

    Args:
        name: of the network, as `foveate.models.build` knows it.
        legacy: whether SharpMask's rate falls.

    Raises:
        ModelError: there is no published schedule for it.
    """
    sharpmask = SHARPMASK_ORIGINAL if legacy.constant_sharpmask_rate else SHARPMASK
    schedules = {
        "deepmask-resnet50": DEEPMASK,
        "deepmask-vgg": DEEPMASK_2015,
        "sharpmask-resnet50": sharpmask,
        "multipathnet-vgg16": MULTIPATHNET,
        "multipathnet-resnet18": MULTIPATHNET,
        "multipathnet-resnet50": MULTIPATHNET,
        "fast-rcnn-vgg16": FAST_RCNN,
    }
    if name not in schedules:
        raise ModelError(
            f"{name!r} has no published training", remedy=f"use one of {', '.join(schedules)}"
        )
    return schedules[name]


def window_plan(
    name: str,
    network: DeepMask | SharpMask,
    dataset: CocoDataset,
    schedule: Schedule,
    legacy: LegacyOptions,
    *,
    seed: int,
    held_out: CocoDataset | None = None,
) -> Plan[Any, WindowBatch]:
    """Plan the training of a DeepMask, or of the refinement of a SharpMask.

    Args:
        name: of the network.
        network: on its device.
        dataset: training images.
        schedule: for how long.
        legacy: quirks of the released code.
        seed: of the training.
        held_out: images for validation.
    """
    refines = isinstance(network, SharpMask)
    deepmask = network.deepmask if isinstance(network, SharpMask) else network
    window = WindowOptions(
        patch=deepmask.patch_side,
        window=deepmask.window,
        # The paper's 128 px in a window of 224.
        canonical=float(ceil(deepmask.window * 128 / 224)),
    )
    label_side = deepmask.window if refines else deepmask.supervised_side

    def source(images: CocoDataset) -> WindowSource:
        options = MaskSamplerOptions(window=window, label_side=label_side)
        masks, scores = MaskSampler(images, options, legacy), None
        if schedule.score_share:
            scores = ScoreSampler(images, ScoreSamplerOptions(window=window), legacy)
        return WindowSource(masks, scores, score_share=schedule.score_share, seed=seed)

    return Plan(
        name=name,
        task=SharpMaskTask(network) if isinstance(network, SharpMask) else DeepMaskTask(network),
        source=source(dataset),
        schedule=schedule,
        held_out=None if held_out is None else source(held_out),
        origin=_origin(dataset, legacy),
    )


def region_options(name: str, network: MultiPathNet) -> RegionSamplerOptions:
    """Give the published numbers: COCO's for MultiPathNet, Pascal VOC's for Fast R-CNN."""
    thresholds = INTEGRAL_THRESHOLDS[: len(network.class_heads)]
    if name.startswith("fast-rcnn"):
        return RegionSamplerOptions(regions=128, thresholds=thresholds, short_side=600)
    return RegionSamplerOptions(thresholds=thresholds)


def region_plan(
    name: str,
    network: MultiPathNet,
    dataset: CocoDataset,
    proposals: ProposalTable,
    statistics: BoxStatistics,
    schedule: Schedule,
    legacy: LegacyOptions,
    *,
    seed: int,
    held_out: tuple[CocoDataset, ProposalTable] | None = None,
) -> Plan[Any, RegionBatch]:
    """Plan the training of a MultiPathNet or Fast R-CNN.

    Args:
        name: of the network.
        network: on its device.
        dataset: training images.
        proposals: of these images.
        statistics: of the box targets, by `measure_statistics`.
        schedule: for how long.
        legacy: quirks of the released code.
        seed: of the training.
        held_out: images for validation, and their proposals.
    """
    options = region_options(name, network)

    def source(images: CocoDataset, proposed: ProposalTable) -> RegionSource:
        sampler = RegionSampler(images, proposed, statistics, options, legacy)
        return RegionSource(sampler, heads=len(network.class_heads), seed=seed)

    return Plan(
        name=name,
        task=MultiPathNetTask(network),
        source=source(dataset, proposals),
        schedule=schedule,
        held_out=None if held_out is None else source(*held_out),
        origin=_origin(dataset, legacy, proposals),
    )


def _origin(
    dataset: CocoDataset, legacy: LegacyOptions, proposals: ProposalTable | None = None
) -> Origin:
    inputs = {"the annotations or images": dataset.digest}
    if proposals is not None:
        inputs["the proposals"] = proposals.digest
    return Origin(inputs=inputs, options={"legacy": asdict(legacy)})
