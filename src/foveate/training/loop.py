# SPDX-License-Identifier: Apache-2.0
"""The training loop that all networks share: resumable, and deterministic for a seed."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from foveate.arrays import Int64Array
from foveate.errors import ModelError
from foveate.progress import Progress, no_progress
from foveate.training.resume import REMEDY, Origin, ResumeFile
from foveate.typed_options import TypedOptions

Losses = dict[str, Tensor]
Step = Callable[[np.random.Generator], Losses]


def distinct(rng: np.random.Generator, count: int, wanted: int) -> Int64Array:
    """Draw ``wanted`` different indices below ``count``, or all of them if there are fewer."""
    return rng.choice(count, min(count, wanted), replace=False)


class Trainable(Protocol):
    """The steps of a training run. A step depends only on the state and on its number."""

    def step(self, index: int) -> Mapping[str, float]:
        """Run the optimizer step with this number, from 0, and return its losses."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on: tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the return value of ``state_dict``."""


def train_loop(
    work: Trainable,
    *,
    task: str,
    steps: int,
    resume: ResumeFile,
    every: int,
    progress: Progress,
    is_main: bool = True,
) -> None:
    """Run all steps that are not done yet.

    Args:
        work: Training to run.
        task: Name of the training, for the progress.
        steps: Total number of steps.
        resume: File that is read first, and written at regular intervals and after the last step.
        every: Number of steps between two writes.
        progress: Called after every step, with running means of the losses.
        is_main: Whether this process writes the file; True for one of the processes.

    Raises:
        ModelError: The resume file does not fit, or a loss or a weight is no longer finite.
    """
    done = _resume(work, resume)
    means: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        # Gradients vanish as masks become right, and processors are many times slower with numbers
        # below 1e-38, so that these are flushed to 0 in this thread.
        torch.set_flush_denormal(True)
        stack.callback(torch.set_flush_denormal, False)
        for index in range(done, steps):
            # Running means of about fifty steps: single losses fluctuate too much.
            for name, loss in work.step(index).items():
                means[name] = 0.98 * means.get(name, loss) + 0.02 * loss
            progress(task, index + 1, steps, means)
            if (index + 1) % every == 0 or index + 1 == steps:
                state = work.state_dict()
                _require_finite_weights(state, index + 1, resume.path)
                if is_main:
                    resume.write(index + 1, state)


def require_finite(losses: Losses, index: int) -> dict[str, float]:
    """Return the losses of a step, scalars by name, as Python numbers.

    Raises:
        ModelError: A loss is not finite; this step has not changed anything yet.
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
            f"the training state does not fit this network: {error}",
            file=resume.path,
            remedy=REMEDY,
        ) from error
    return int(state["step"])


def _require_finite_weights(state: Mapping[str, Any], step: int, path: Path) -> None:
    # A loss may still be finite when its gradient no longer is: then the last good file is kept.
    for name, tensor in state["network"].items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"the weights {name!r} are no longer finite after step {step}",
                file=path,
                remedy="the last checkpoint is kept; train in float32 or with a lower learning rate",
            )


def multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16."""
    # Without them, PyTorch converts number by number: a step of SharpMask then takes eight times as
    # long as in float32, and one of DeepMask eleven times.
    # The public `torch.cpu.get_capabilities` is younger than the oldest supported PyTorch.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001 - see above


@dataclass(frozen=True, kw_only=True)
class LoopOptions(TypedOptions):
    """The schedule of a ``mini`` network.

    Args:
        steps: Number of optimizer steps.
        learning_rate: Rate of AdamW at the end of the warm-up; a cosine brings it to 0.
        warm_up: Number of steps in which the rate rises linearly.
        weight_decay: Weight decay of AdamW.
        seed: Seed of batches, dropout and initialization.
        checkpoint_every: Number of steps between checkpoints.
        bfloat16: Whether matrix products are computed in bfloat16, with weights in float32; by
            default the value of ``multiplies_bfloat16``.
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
        self._check_at_least(steps=1, checkpoint_every=1)


def train_adamw(
    network: nn.Module,
    step: Step,
    options: LoopOptions,
    checkpoint: Path,
    *,
    task: str,
    progress: Progress = no_progress,
    origin: Origin | None = None,
) -> None:
    """Train the parameters of a network that require a gradient, in place, by AdamW.

    Everything random in a step comes from a generator made of seed and step number, so that an
    interrupted and resumed run gives the weights of an uninterrupted one.

    Args:
        network: Network; its frozen parts have ``requires_grad`` off and stay in evaluation mode.
        step: Function that computes the named losses of one batch from the step's generator.
        options: Schedule.
        checkpoint: File that an earlier run is resumed from; it is replaced atomically.
        task: Name of the network, for the progress.
        progress: Called after every step.
        origin: Everything else that determines the result, see ``ResumeFile``.

    Raises:
        ModelError: The checkpoint was made with other options, or a loss is no longer finite.
    """
    origin = origin or Origin()
    origin = replace(origin, options={**asdict(options), **origin.options})
    network.train()
    train_loop(
        _AdamW(network, step, options),
        task=task,
        steps=options.steps,
        resume=ResumeFile(checkpoint, origin),
        every=options.checkpoint_every,
        progress=progress,
    )
    network.eval()


class _AdamW:
    """Steps of AdamW with warm-up, cosine and clipped gradients: a ``Trainable``."""

    def __init__(self, network: nn.Module, step: Step, options: LoopOptions) -> None:
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
            group["lr"] = options.learning_rate * _rate(index, options)
        # Dropout follows from the step too; a large prime keeps seeds and steps apart.
        torch.manual_seed(options.seed * 1_000_003 + index)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            losses = self._losses(np.random.default_rng([options.seed, index]))
        values = require_finite(losses, index)
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
        nn.utils.clip_grad_norm_(self._parameters, 5.0)
        self._optimizer.step()
        return values

    def state_dict(self) -> dict[str, Any]:
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


def _rate(index: int, options: LoopOptions) -> float:
    """Return the learning rate of a step as a share of the highest."""
    rise = min(1.0, (index + 1) / max(1, options.warm_up))
    return rise * 0.5 * (1 + math.cos(math.pi * index / options.steps))
