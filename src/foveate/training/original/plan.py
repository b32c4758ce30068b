# SPDX-License-Identifier: Apache-2.0
"""One training: what is trained on what, for how long, and how the work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from foveate.errors import OptionError
from foveate.training.loader import Source
from foveate.training.origin import Origin
from foveate.training.original.schedules import Schedule
from foveate.training.original.sgd import Precision
from foveate.training.original.task import Task
from foveate.typed_options import TypedOptions

S = TypeVar("S")
B = TypeVar("B")

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with steps done, their number, and running means of the losses."""

Keep = Callable[[int, Mapping[str, float]], None]
"""Called with steps done and the held-out losses, when the network should be kept."""


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[S, B]):
    """What is trained, on what, and how long.

    Attributes:
        name: of the network, which its files are called by.
        task: the network with its losses.
        source: where its samples come from.
        held_out: where samples come from that nothing is learnt from; None for no validation.
        schedule: its steps.
        origin: what else decides the result: a training is only resumed with the same.
    """

    name: str
    task: Task[B]
    source: Source[S, B]
    schedule: Schedule
    held_out: Source[S, B] | None = None
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TypedOptions):
    """How the work is done, and how often it is written down.

    Attributes:
        seed: fixes every draw.
        precision: of the forward and backward pass.
        workers: processes that draw samples, for each process that trains.
        checkpoint_every: steps between two writings of the resume file, and of sample images.
        scalars_every: steps between two points of a curve.
        validate_every: steps between two looks at held-out batches; the last step has one too.
        validation_batches: how many batches, of the schedule's size, are held out.
    """

    seed: int = 0
    precision: Precision = "float32"
    workers: int = 2
    checkpoint_every: int = 500
    scalars_every: int = 20
    validate_every: int = 2000
    validation_batches: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise OptionError(f"the seed must not be negative, found {self.seed}")
        for name in ("checkpoint_every", "scalars_every", "validate_every", "validation_batches"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, found {getattr(self, name)}")
