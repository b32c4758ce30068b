# SPDX-License-Identifier: Apache-2.0
"""From the options of ``foveate train --network`` to a checkpoint."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.datasets import CocoDataset, Splits, find_splits
from foveate.errors import InputError, OptionError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models.checkpoint import Cascade, CascadeInfo, Detector, save_checkpoint
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.models.timm_trunk import PREFIX
from foveate.models.trunk import Trunk
from foveate.progress import Progress, no_progress
from foveate.training.distributed import World, open_world
from foveate.training.original.batches import (
    RegionSource,
    WindowSource,
    open_proposals,
    region_options,
    window_source,
)
from foveate.training.original.networks import (
    PRETRAINED,
    detector_network,
    proposal_network,
    start_trunk,
)
from foveate.training.original.objectives import (
    DeepMaskObjective,
    MultiPathNetObjective,
    SharpMaskObjective,
)
from foveate.training.original.schedules import Schedule, published_schedule
from foveate.training.original.train import Setup, TrainOptions, train
from foveate.training.resume import Origin, check_replaceable, fingerprint, is_current, stamp
from foveate.training.sampling.boxes import ProposalTable
from foveate.training.sampling.regions import RegionSampler, measure_statistics

_log = logging.getLogger(__name__)

# Logit from which a pixel belongs to the object: a probability of 0.2 (DeepMask, section 5).
MASK_THRESHOLD = math.log(0.2 / 0.8)


@dataclass(frozen=True, kw_only=True)
class OriginalOptions(TrainOptions):
    """A training of a full-size network.

    Args:
        network: Name of the network, for ``foveate.models.build``.
        dataset: Directory of the data set, see ``find_splits``.
        output: Directory of the run; an interrupted one is resumed.
        sizes: Further arguments of the network's builder; by default the published ones.
        init_from: Checkpoint of the same network to start from.
        deepmask: Checkpoint of the DeepMask that a SharpMask refines.
        proposals: Proposals for a detector: a file of COCO results, or a bundle that proposes.
        validation_proposals: The same for the held-out images; by default the bundle, if
            ``proposals`` is one.
        steps: Number of optimizer steps in place of the published one; learning rates drop at the
            same fractions of it.
        batch: Number of samples per step in place of the published one.
        trunk_weights: Weights that a trunk of timm starts from, see ``start_trunk``; by default
            ``pretrained``, unless a checkpoint has them.
        legacy: Quirks of the original code.
        device: ``auto``, ``cpu`` or ``cuda``.
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
    trunk_weights: str | None = None
    legacy: LegacyOptions = field(default_factory=LegacyOptions)
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        family = self.network.partition("-")[0]
        for name, given, needed in (
            ("a trained DeepMask", self.deepmask, family == "sharpmask"),
            ("proposals", self.proposals, family in {"multipathnet", "fast"}),
        ):
            if needed != (given is not None):
                raise OptionError(
                    f"{self.network} {'needs' if needed else 'does not take'} {name}",
                    remedy="SharpMask needs --deepmask, a detector needs --proposals",
                )
        if self.validation_proposals is not None and self.proposals is None:
            what = f"{self.network} takes no validation proposals"
            raise OptionError(what, remedy="only a detector needs --validation-proposals")
        if self.trunk_weights is not None and self.trunk_start is None:
            raise OptionError(
                f"the trunk of {self.network} takes no --trunk-weights",
                remedy="they are for a trunk of timm, without --init-from and --deepmask",
            )

    @property
    def trunk_start(self) -> str | None:
        """What a trunk of timm starts from; ``None`` for other trunks, or if a checkpoint has it."""
        if f"-{PREFIX}" not in self.network or self.init_from or self.deepmask:
            return None
        return self.trunk_weights or PRETRAINED

    @property
    def files(self) -> str:
        """The name of the network in names of files."""
        return self.network.replace(":", "-")

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
        """The published schedule with the requested changes."""
        changes = {} if self.steps is None else {"epochs": 1, "epoch_steps": self.steps}
        if self.batch is not None:
            changes["batch"] = self.batch
        return published_schedule(self.network, self.legacy).shortened(**changes)


def run(options: OriginalOptions, progress: Progress = no_progress) -> Path:
    """Train a network, alone or as one of the processes of ``torchrun``; return its checkpoint.

    Only the first process calls ``progress``.

    Raises:
        FoveateError: See the options, ``check_replaceable``, ``open_proposals``, ``train``.
    """
    _ = options.schedule  # refuses a network without one, before anything is written
    check_replaceable(options.network, [f"{options.files}.training"], options.result, options.best)
    with open_world(options.device) as world:
        splits = find_splits(options.dataset, masks=options.proposals is None)
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the directory of the run cannot be made ({error.strerror})",
                file=options.output,
                remedy="choose another path",
            ) from error
        # Random weights follow from the seed, and the first process sends its own to the others.
        torch.manual_seed(options.seed)
        result: Cascade | Detector
        if options.proposals is None:
            setup, result = _proposal_setup(options, splits, world)
        else:
            setup, result = _detector_setup(options, splits, world, progress)
        _train(setup, result, options, world, progress)
        if world.is_main:
            save_checkpoint(options.result, result)
    return options.result


def _proposal_setup(
    options: OriginalOptions, splits: Splits, world: World
) -> tuple[Setup, Cascade]:
    """Build a DeepMask or SharpMask, and the windows that it is trained on."""
    network, sizes, notes = proposal_network(
        options.network, options.sizes, deepmask=options.deepmask, initial=options.init_from
    )
    trunk = start_trunk(deepmask_of(network).trunk, options.trunk_start, notes, "proposals")
    # Before training changes the weights.
    start = _fingerprints(options, network, deepmask_of(network).trunk)
    network.to(world.device)
    schedule = options.schedule

    def source(images: CocoDataset) -> WindowSource:
        share, seed = schedule.score_share, options.seed
        return window_source(network, images, options.legacy, score_share=share, seed=seed)

    info = CascadeInfo(
        proposals=options.network,
        proposals_sizes=sizes,
        mask_threshold=MASK_THRESHOLD,
        training=_notes(options, splits.train) | trunk,
    )
    setup = Setup(
        name=options.files,
        objective=SharpMaskObjective(network)
        if isinstance(network, SharpMask)
        else DeepMaskObjective(network),
        source=source(splits.train),
        schedule=schedule,
        held_out=None if splits.validation is None else source(splits.validation),
        origin=_origin(options, splits.train, start),
    )
    return setup, Cascade(info=info, proposals=network)


def _detector_setup(
    options: OriginalOptions, splits: Splits, world: World, progress: Progress
) -> tuple[Setup, Detector]:
    """Build a MultiPathNet or Fast R-CNN, and the regions that it is trained on."""
    dataset = splits.train
    network, sizes, notes = detector_network(
        options.network, len(dataset.class_names), options.sizes, initial=options.init_from
    )
    trunk = start_trunk(network.own_trunk, options.trunk_start, notes, "classifier")
    frozen = not all(parameter.requires_grad for parameter in network.parameters())
    if frozen and options.init_from is None and world.is_main:
        _log.warning("%s has frozen layers, which stay random: pass --init-from", options.network)
    start = _fingerprints(options, network, network.own_trunk)
    network.to(world.device)
    assert options.proposals is not None
    proposals = _proposals(options, options.proposals, dataset, "proposals", world, progress)
    regions = region_options(options.network, network)
    statistics = measure_statistics(dataset, proposals, regions, options.legacy)

    def source(images: CocoDataset, proposed: ProposalTable) -> RegionSource:
        sampler = RegionSampler(images, proposed, statistics, regions, options.legacy)
        return RegionSource(sampler, heads=len(network.class_heads), seed=options.seed)

    held_out = _held_out_proposals(options, splits, world, progress)
    info = CascadeInfo(
        classifier=options.network,
        classifier_sizes=sizes,
        class_names=dataset.class_names,
        delta_mean=statistics.mean,
        delta_std=statistics.std,
        training=_notes(options, dataset) | trunk,
    )
    setup = Setup(
        name=options.files,
        objective=MultiPathNetObjective(network),
        source=source(dataset, proposals),
        schedule=options.schedule,
        held_out=None if held_out is None else source(*held_out),
        origin=_origin(options, dataset, start, **{"the proposals": proposals.digest}),
    )
    return setup, Detector(info=info, classifier=network)


def _fingerprints(options: OriginalOptions, network: nn.Module, trunk: Trunk) -> dict[str, str]:
    """Return the fingerprints of the weights that the user gave to start from."""
    start = {} if options.trunk_start is None else {"trunk": fingerprint(trunk)}
    if options.deepmask is not None and isinstance(network, SharpMask):
        start["deepmask"] = fingerprint(network.deepmask)
    if options.init_from is not None:
        start["initial"] = fingerprint(network)
    return start


def _origin(
    options: OriginalOptions, dataset: CocoDataset, start: Mapping[str, str], **inputs: str
) -> Origin:
    inputs = {"the annotations or images": dataset.digest, **inputs}
    return Origin(inputs=inputs, options={"legacy": asdict(options.legacy), **start})


def _held_out_proposals(
    options: OriginalOptions, splits: Splits, world: World, progress: Progress
) -> tuple[CocoDataset, ProposalTable] | None:
    """Return the held-out images and their proposals, if there are both."""
    assert options.proposals is not None
    images, source = splits.validation, options.validation_proposals
    if source is None and options.proposals.suffix != ".json":
        source = options.proposals
    if images is None or source is None:
        return None
    return images, _proposals(options, source, images, "validation proposals", world, progress)


def _proposals(
    options: OriginalOptions,
    source: Path,
    images: CocoDataset,
    name: str,
    world: World,
    progress: Progress,
) -> ProposalTable:
    cache = options.output / f"{name.replace(' ', '-')}.json"
    return open_proposals(source, images, cache, name, progress, alone=world.size == 1)


def _train(
    setup: Setup,
    result: Cascade | Detector,
    options: OriginalOptions,
    world: World,
    progress: Progress,
) -> None:
    if world.is_main and options.best.exists() and not is_current(options.best, setup.origin):
        options.best.unlink()

    def save_best(done: int, losses: Mapping[str, float]) -> None:
        notes = {**result.info.training, "steps": done, "validation": dict(losses)}
        best = replace(result, info=replace(result.info, training=notes))
        # In float32: rounding to half would change the network that is still trained.
        save_checkpoint(options.best, best, half=False)
        stamp(options.best, setup.origin)

    if setup.held_out is None and world.is_main:
        _log.warning("%s: no held-out images to validate on", setup.name)
    train(setup, options, options.output, world, progress, save_best)


def _notes(options: OriginalOptions, dataset: CocoDataset) -> dict[str, Any]:
    """Return the notes on the training for the checkpoint."""
    schedule = options.schedule
    return {
        "images": len(dataset),
        "objects": len(dataset.annotations),
        "steps": schedule.steps,
        "batch": schedule.batch,
        "seed": options.seed,
        "as released": [name for name, on in asdict(options.legacy).items() if on],
    }
