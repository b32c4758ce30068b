# SPDX-License-Identifier: Apache-2.0
"""The training loop that all networks share: resumable, and deterministic for a seed.

`drive` is the loop. What a step does is a `Trainable`: `run` makes the one of `mini`, which learns
from cached features with AdamW; `foveate.training.original` has those of the published systems.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.errors import ModelError, OptionError
from foveate.training.origin import REMEDY, Origin
from foveate.training.resume import ResumeFile
from foveate.typed_options import TypedOptions

Losses = dict[str, Tensor]
Step = Callable[[np.random.Generator], Losses]
Progress = Callable[[int, int, dict[str, float]], None]


def distinct(rng: np.random.Generator, count: int, wanted: int) -> NDArray[np.int64]:
    """Draw `wanted` different indices below `count`, or all of them if there are fewer."""
    return rng.choice(count, min(count, wanted), replace=False)


class Trainable(Protocol):
    """What `drive` drives. A step depends on the state and its number, on nothing else."""

    def step(self, index: int) -> Mapping[str, float]:
        """Do the optimiser step with this number, from 0; give its losses."""

    def state_dict(self) -> dict[str, Any]:
        """Give all that the next steps depend on: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


def drive(
    work: Trainable,
    *,
    steps: int,
    resume: ResumeFile,
    every: int,
    progress: Progress,
    writes: bool = True,
) -> None:
    """Do all steps that are still to be done.

    Args:
        work: what is trained.
        steps: number of steps in all.
        resume: read first; written every so many steps and after the last.
        every: steps between two writings.
        progress: called with steps done, their number, and running means of the losses.
        writes: off in all but one of several processes that train together.

    Raises:
        ModelError: the resume file does not fit, or a loss or a weight is no longer finite.
    """
    done = _resume(work, resume)
    means: dict[str, float] = {}
    with _flushing_denormals():
        for index in range(done, steps):
            for name, loss in work.step(index).items():
                means[name] = 0.98 * means.get(name, loss) + 0.02 * loss
            progress(index + 1, steps, means)
            if (index + 1) % every == 0 or index + 1 == steps:
                state = work.state_dict()
                _require_finite_weights(state, index + 1, resume.path)
                if writes:
                    resume.write(index + 1, state)


@contextlib.contextmanager
def _flushing_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0, as long as it lasts: the setting is the whole thread's.

    Gradients fade as masks become right, and a processor takes such numbers many times slower.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def require_finite(losses: Losses, index: int) -> dict[str, float]:
    """Read losses back as numbers.

    Args:
        losses: scalars by name.
        index: number of the step, from 0.

    Raises:
        ModelError: one is not finite; nothing has been changed by this step yet.
    """
    values = {name: loss.item() for name, loss in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ModelError(
                f"the loss {name!r} became {value} at step {index + 1}",
                remedy="the last checkpoint is kept; look for broken images or labels, or train in "
                "float32 or with a lower learning rate",
            )
    return values


def _resume(work: Trainable, resume: ResumeFile) -> int:
    state = resume.read()
    if state is None:
        return 0
    try:
        work.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the state of a training does not fit this network: {error}",
            file=resume.path,
            remedy=REMEDY,
        ) from error
    return int(state["step"])


def _require_finite_weights(state: Mapping[str, Any], step: int, path: Path) -> None:
    """Keep the last good file: a loss may still be finite when its gradient no longer is."""
    for name, tensor in state["network"].items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"the weights {name!r} are no longer finite after step {step}",
                file=path,
                remedy="the last checkpoint is kept; train in float32 or with a lower learning rate",
            )


def multiplies_bfloat16() -> bool:
    """Say whether this processor has instructions for it.

    Where it has none, PyTorch converts number by number: a step of SharpMask then takes eight times
    as long as in float32, one of DeepMask eleven times.
    """
    # The public `torch.cpu.get_capabilities` is younger than the oldest PyTorch that we take.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001


@dataclass(frozen=True, kw_only=True)
class LoopOptions(TypedOptions):
    """The schedule of a `mini` network.

    Attributes:
        steps: optimiser steps.
        learning_rate: of AdamW, at the end of the warm-up; a cosine brings it to 0.
        warm_up: steps of linear rise.
        weight_decay: of AdamW.
        seed: fixes batches, dropout and initialisation.
        checkpoint_every: steps between checkpoints.
        bfloat16: run matrix products in bfloat16, weights kept in float32; by default where the
            processor can, see `multiplies_bfloat16`.
    """

    steps: int
    learning_rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 0.02
    seed: int = 0
    checkpoint_every: int = 500
    bfloat16: bool = field(default_factory=multiplies_bfloat16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.checkpoint_every < 1:
            raise OptionError("steps and checkpoint_every must be at least 1")


def run(
    network: nn.Module,
    step: Step,
    options: LoopOptions,
    checkpoint: Path,
    progress: Progress,
    origin: Origin | None = None,
) -> None:
    """Train the parameters of `network` that require a gradient, in place, by AdamW.

    A step draws everything random from a generator made of seed and step number, so a run that
    was interrupted and resumed gives the weights of one that was not.

    Args:
        network: its frozen parts have `requires_grad` off and stay in evaluation mode.
        step: computes the named losses of one batch from the step's generator.
        options: the schedule.
        checkpoint: resumed from if it exists; replaced in one step.
        progress: called with steps done, their number, and running means of the losses.
        origin: what else decides the result, see `ResumeFile`.

    Raises:
        ModelError: the checkpoint was made with other options, or a loss is no longer finite.
    """
    origin = origin or Origin()
    origin = replace(origin, options={**asdict(options), **origin.options})
    network.train()
    drive(
        _AdamW(network, step, options),
        steps=options.steps,
        resume=ResumeFile(checkpoint, origin),
        every=options.checkpoint_every,
        progress=progress,
    )
    network.eval()


class _AdamW:
    """Steps of AdamW with warm-up, cosine and clipped gradients: a `Trainable`."""

    def __init__(self, network: nn.Module, step: Step, options: LoopOptions):
        self._network = network
        self._losses = step
        self._options = options
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )

    def step(self, index: int) -> dict[str, float]:
        options = self._options
        for group in self._optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(index, options)
        torch.manual_seed(options.seed * 1_000_003 + index)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            losses = self._losses(np.random.default_rng([options.seed, index]))
        values = require_finite(losses, index)
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        nn.utils.clip_grad_norm_(self._parameters, 5.0)
        self._optimizer.step()
        return values

    def state_dict(self) -> dict[str, Any]:
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


def _schedule(index: int, options: LoopOptions) -> float:
    rise = min(1.0, (index + 1) / max(1, options.warm_up))
    return rise * 0.5 * (1 + math.cos(math.pi * index / options.steps))
