# SPDX-License-Identifier: Apache-2.0
"""The training of one network by its schedule, and the files of the run."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import Any

from foveate.errors import BackendError
from foveate.progress import Progress, no_progress
from foveate.training.distributed import World
from foveate.training.loader import Loader, Source, draw_batch
from foveate.training.loop import Trainable, train_loop
from foveate.training.original.monitor import Monitor, OnBest
from foveate.training.original.objectives import Objective
from foveate.training.original.schedules import Schedule
from foveate.training.original.sgd import OBJECTIVE, SgdTraining, choose_precision
from foveate.training.resume import Origin, ResumeFile
from foveate.typed_options import TypedOptions


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A network with everything that it is trained on.

    Args:
        name: Name of the network, and of its files.
        objective: Network with its losses.
        source: Training samples.
        schedule: Steps of the training.
        held_out: Samples for validation; None for no validation.
        origin: Everything else that determines the result; a run is resumed only if it is the same.
    """

    name: str
    objective: Objective
    source: Source
    schedule: Schedule
    held_out: Source | None = None
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TypedOptions):
    """Options for how steps are computed and how often files are written.

    Args:
        seed: Seed of every draw.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        workers: Number of processes that draw samples, for each process that trains.
        checkpoint_every: Number of steps between two writes of the resume file, and of sample
            images.
        scalars_every: Number of steps between two points of a curve.
        validate_every: Number of steps between two validations; the last step has one too.
        validation_batches: Number of held-out batches, of the size in the schedule.
    """

    seed: int = 0
    precision: str = "auto"
    workers: int = 2
    checkpoint_every: int = 500
    scalars_every: int = 20
    validate_every: int = 2000
    validation_batches: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least(seed=0, checkpoint_every=1, scalars_every=1)
        self._check_at_least(validate_every=1, validation_batches=1)


def train(
    setup: Setup,
    options: TrainOptions,
    output: Path,
    world: World,
    progress: Progress = no_progress,
    on_best: OnBest | None = None,
) -> None:
    """Train a network in place, from the state that an interrupted run left.

    Sample i of step s, the head that a step trains, and dropout follow from the seed, so that an
    interrupted and resumed training ends with the weights of an uninterrupted one, bit for bit.

    Args:
        setup: Network and data.
        options: Options of the computation.
        output: Directory of ``<name>.training``, the resume file, and of ``board/<name>``, the
            events for TensorBoard.
        world: Processes that train together; the first one writes the files.
        progress: Called after every step, in the first process.
        on_best: Called when held-out losses are the lowest so far, in the first process.

    Raises:
        ModelError: A loss is no longer finite, or the resume file does not fit.
        DataError: Too many records of the data set are broken.
        BackendError: A worker died, or the processes do not share ``output``.
    """
    schedule, objective = setup.schedule, setup.objective
    precision = choose_precision(options.precision, world.device)
    output.mkdir(parents=True, exist_ok=True)
    asked = {"network": setup.name, "seed": options.seed, "precision": precision}
    asked |= asdict(schedule) | dict(setup.origin.options)
    resume = ResumeFile(output / f"{setup.name}.training", replace(setup.origin, options=asked))
    # A process that starts anew while another resumes would wait for it forever.
    if not world.agrees(resume.path.exists()):
        raise BackendError(
            "some processes find a training run to resume, others do not",
            file=resume.path,
            remedy="use a directory that the processes of all machines can access",
        )
    indices = world.share(schedule.batch)
    steps, seed, workers = schedule.steps, options.seed, options.workers
    with Loader(setup.source, indices=indices, seed=seed, steps=steps, workers=workers) as loader:
        work = SgdTraining(objective, schedule, loader, world, precision=precision, seed=seed)
        monitor = Monitor(
            work=work,
            board=output / "board" / setup.name if world.is_main else None,
            scalars_every=options.scalars_every,
            images_every=options.checkpoint_every,
            progress=progress if world.is_main else no_progress,
            on_best=on_best if world.is_main else None,
        )
        training: Trainable = work
        if setup.held_out is not None:
            training = ValidatedTraining(
                work,
                setup.held_out,
                options=options,
                indices=indices,
                steps=steps,
                on_validation=partial(monitor.validated, setup.name),
            )
        with contextlib.closing(monitor):
            train_loop(
                training,
                task=setup.name,
                steps=steps,
                resume=resume,
                every=options.checkpoint_every,
                progress=monitor,
                is_main=world.is_main,
            )
    objective.network.eval()


@dataclass
class ValidatedTraining:
    """A training run that is measured on held-out batches: a ``foveate.training.loop.Trainable``.

    The measurements do not change the result of the training.

    Args:
        work: Training to measure.
        held_out: Held-out samples.
        options: When to measure, and on how many batches, which are the same every time.
        indices: Places in a batch that this process draws.
        steps: Number of steps of the training.
        on_validation: Called with the number of finished steps, the losses by name, and whether
            their weighted sum is the lowest so far.
    """

    work: SgdTraining
    held_out: Source
    _: KW_ONLY
    options: TrainOptions
    indices: range
    steps: int
    on_validation: Callable[[int, Mapping[str, float], bool], None]
    _lowest: float = field(default=inf, init=False)

    def step(self, index: int) -> Mapping[str, float]:
        """Run a step, and measure if it is due."""
        losses = self.work.step(index)
        done = index + 1
        if done % self.options.validate_every == 0 or done == self.steps:
            found = self.work.measure(self._batches)
            best = found[OBJECTIVE] < self._lowest
            if best:
                self._lowest = found[OBJECTIVE]
            self.on_validation(done, found, best)
        return losses

    @cached_property
    def _batches(self) -> list[Any]:
        # Drawn once: the same samples at every measurement, and no draw without one.
        source, seed = self.held_out, self.options.seed
        steps = range(self.options.validation_batches)
        return [draw_batch(source, self.indices, seed, step).batch for step in steps]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, and the lowest sum of losses."""
        return {**self.work.state_dict(), "lowest": self._lowest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the return value of ``state_dict``, here or of a run without validation."""
        self.work.load_state_dict(state)
        self._lowest = state.get("lowest", inf)
