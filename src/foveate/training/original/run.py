# SPDX-License-Identifier: Apache-2.0
"""From a network's name and a data set to its checkpoint: what `foveate train --network` does."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.datasets import CocoDataset, Splits, find_splits
from foveate.errors import InputError, OptionError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    Detector,
    save_checkpoint,
)
from foveate.models.sharpmask import SharpMask
from foveate.training.distributed import World, world
from foveate.training.origin import is_current, stamp
from foveate.training.original.data import (
    open_proposals,
    proposals_origin,
)
from foveate.training.original.networks import detector_network, proposal_network
from foveate.training.original.plan import Plan, TrainOptions
from foveate.training.original.plans import (
    published_schedule,
    region_options,
    region_plan,
    window_plan,
)
from foveate.training.original.schedules import Schedule
from foveate.training.original.sgd import choose_precision
from foveate.training.original.train import train
from foveate.training.resume import weights_digest
from foveate.training.sampling import ProposalTable, measure_statistics
from foveate.typed_options import TypedOptions

_log = logging.getLogger(__name__)

MASK_THRESHOLD = math.log(0.2 / 0.8)
"""Logit from which a pixel is the object's: a probability of 0.2 (DeepMask, section 5)."""

Report = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with the task's name, what is done of it, its length, and running losses."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(TypedOptions):
    """One training.

    Attributes:
        network: its name, for `models.build`.
        sizes: what its builder takes beside; those left out are the published ones.
        dataset: see `find_splits`.
        output: directory of the run; an interrupted one goes on where it was.
        init_from: checkpoint of the same network to start from.
        deepmask: checkpoint of the DeepMask that a SharpMask refines.
        proposals: of a detector: file of COCO results, or a bundle that proposes.
        validation_proposals: the same for the images that are held out; by default the bundle
            that proposes, if it is one.
        steps: optimiser steps in place of the published number; the rates fall at the same share
            of the way.
        batch: samples a step in place of the published number.
        legacy: quirks of the released code.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `float32`, `bfloat16` or `float16`.
        workers: processes that draw samples.
        checkpoint_every: steps between two writings of the resume file.
        validate_every: steps between two looks at held-out images, if the data set has some.
        validation_batches: what a look is at, in batches of the schedule's size.
        seed: fixes every draw.
    """

    network: str
    dataset: Path
    output: Path
    sizes: Mapping[str, int | str] = field(default_factory=dict)
    init_from: Path | None = None
    deepmask: Path | None = None
    proposals: Path | None = None
    validation_proposals: Path | None = None
    steps: int | None = None
    batch: int | None = None
    legacy: LegacyOptions = field(default_factory=LegacyOptions)
    device: str = "auto"
    precision: str = "auto"
    workers: int = 2
    checkpoint_every: int = 500
    validate_every: int = 2000
    validation_batches: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        family = self.network.partition("-")[0]
        needs_deepmask = family == "sharpmask"
        needs_proposals = family in {"multipathnet", "fast"}
        for name, given, needed in (
            ("a trained DeepMask", self.deepmask, needs_deepmask),
            ("proposals", self.proposals, needs_proposals),
        ):
            if needed != (given is not None):
                raise OptionError(
                    f"{self.network} {'needs' if needed else 'takes no'} {name}",
                    remedy="SharpMask needs --deepmask, a detector needs --proposals",
                )

    @property
    def result(self) -> Path:
        """The checkpoint that the run ends with."""
        return self.output / f"{self.network.rpartition('-')[0]}.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the step that did best on held-out images."""
        return self.result.with_suffix(".best.safetensors")

    @property
    def schedule(self) -> Schedule:
        """The published schedule, with the changes that were asked for."""
        schedule = published_schedule(self.network, self.legacy)
        shorter = {} if self.steps is None else {"epochs": 1, "epoch_steps": self.steps}
        return schedule.shortened(**shorter, batch=self.batch)


def run(options: RunOptions, report: Report) -> Path:
    """Train a network, alone or as one of the processes of `torchrun`.

    Args:
        options: what and how.
        report: hears of the progress; in the first process only.

    Returns:
        The checkpoint.

    Raises:
        FoveateError: see `RunOptions`, `find_splits`, `open_proposals` and `train`.
    """
    schedule = options.schedule
    with world(options.device) as here:
        splits = find_splits(options.dataset, masks=options.proposals is None)
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the directory of the run cannot be made ({error.strerror})",
                file=options.output,
                remedy="choose another place",
            ) from error
        torch.manual_seed(options.seed)
        trained = _train_detector if options.proposals else _train_proposals
        result = trained(options, schedule, splits, here, report)
        if here.leads:
            save_checkpoint(options.result, result)
    return options.result


def _train_proposals(
    options: RunOptions, schedule: Schedule, splits: Splits, here: World, report: Report
) -> Cascade:
    dataset = splits.train
    network, sizes = proposal_network(
        options.network, options.sizes, deepmask=options.deepmask, initial=options.init_from
    )
    start = _start(options, network)
    network.to(here.device)
    plan = window_plan(
        options.network,
        network,
        dataset,
        schedule,
        options.legacy,
        seed=options.seed,
        held_out=splits.validation,
    )
    info = CascadeInfo(
        proposals=options.network,
        proposals_sizes=sizes,
        mask_threshold=MASK_THRESHOLD,
        training=_notes(options, schedule, dataset),
    )
    trained = Cascade(info=info, proposals=network)
    _train(plan, trained, options, here, report, start)
    return trained


def _train_detector(
    options: RunOptions, schedule: Schedule, splits: Splits, here: World, report: Report
) -> Detector:
    dataset = splits.train
    network, sizes = detector_network(
        options.network, len(dataset.class_names), options.sizes, initial=options.init_from
    )
    if options.init_from is None and here.leads:
        _log.warning("%s has frozen layers, which stay random: give --init-from", options.network)
    start = _start(options, network)
    network.to(here.device)
    proposals = _proposals(options, options.proposals, dataset, "proposals", here, report)
    statistics = measure_statistics(
        dataset, proposals, region_options(options.network, network), options.legacy
    )
    plan = region_plan(
        options.network,
        network,
        dataset,
        proposals,
        statistics,
        schedule,
        options.legacy,
        seed=options.seed,
        held_out=_held_out_regions(options, splits, here, report),
    )
    info = CascadeInfo(
        classifier=options.network,
        classifier_sizes=sizes,
        class_names=dataset.class_names,
        delta_mean=statistics.mean,
        delta_std=statistics.std,
        training=_notes(options, schedule, dataset),
    )
    trained = Detector(info=info, classifier=network)
    _train(plan, trained, options, here, report, start)
    return trained


def _start(options: RunOptions, network: nn.Module) -> dict[str, str]:
    """Return the digests of the weights that were given to start from."""
    start = {}
    if options.deepmask is not None and isinstance(network, SharpMask):
        start["deepmask"] = weights_digest(network.deepmask)
    if options.init_from is not None:
        start["initial"] = weights_digest(network)
    return start


def _held_out_regions(
    options: RunOptions, splits: Splits, here: World, report: Report
) -> tuple[CocoDataset, ProposalTable] | None:
    """Open what a detector is validated on, if there are images and proposals for it."""
    assert options.proposals is not None
    held_out, source = splits.validation, options.validation_proposals
    if source is None and options.proposals.suffix != ".json":
        source = options.proposals
    if held_out is None or source is None:
        return None
    name = "validation proposals"
    return held_out, _proposals(options, source, held_out, name, here, report)


def _proposals(
    options: RunOptions,
    source: Path | None,
    images: CocoDataset,
    name: str,
    here: World,
    report: Report,
) -> ProposalTable:
    assert source is not None
    cache = options.output / f"{name.replace(' ', '-')}.json"
    if (
        here.size > 1
        and source.suffix != ".json"
        and not is_current(cache, proposals_origin(source, images))
    ):
        raise OptionError(
            "a bundle proposes in one process only, which may take hours",
            remedy="start with one process until it trains, or give a file of proposals",
        )
    return open_proposals(source, images, cache, lambda done, total: report(name, done, total, {}))


def _train(
    plan: Plan[Any, Any],
    trained: Cascade | Detector,
    options: RunOptions,
    here: World,
    report: Report,
    start: Mapping[str, str],
) -> None:
    chosen = {**plan.origin.options, **start}
    plan = replace(plan, origin=replace(plan.origin, options=chosen))
    if here.leads and options.best.exists() and not is_current(options.best, plan.origin):
        options.best.unlink()

    def tell(done: int, total: int, losses: Mapping[str, float]) -> None:
        if here.leads:
            report(plan.name, done, total, losses)

    def keep(done: int, losses: Mapping[str, float]) -> None:
        notes = {**trained.info.training, "steps": done, "validation": dict(losses)}
        best = replace(trained, info=replace(trained.info, training=notes))
        # In float32: rounding to half would change the network that is still trained.
        save_checkpoint(options.best, best, half=False)
        stamp(options.best, plan.origin)

    how = TrainOptions(
        seed=options.seed,
        precision=choose_precision(options.precision, here.device),
        workers=options.workers,
        checkpoint_every=options.checkpoint_every,
        validate_every=options.validate_every,
        validation_batches=options.validation_batches,
    )
    if plan.held_out is None and here.leads:
        _log.warning("%s: no held-out images to validate on", plan.name)
    train(plan, how, options.output, here, tell, keep)


def _notes(options: RunOptions, schedule: Schedule, dataset: CocoDataset) -> dict[str, Any]:
    """Say in the checkpoint how it was made."""
    return {
        "images": len(dataset),
        "objects": len(dataset.annotations),
        "steps": schedule.steps,
        "batch": schedule.batch,
        "seed": options.seed,
        "as released": [name for name, on in asdict(options.legacy).items() if on],
    }
