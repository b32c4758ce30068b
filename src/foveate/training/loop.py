# SPDX-License-Identifier: Apache-2.0
"""The training loop that all three networks share: resumable, and deterministic for a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foveate.errors import ModelError, OptionError

Losses = dict[str, Tensor]
Step = Callable[[np.random.Generator], Losses]
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """The schedule.

    Attributes:
        steps: optimiser steps.
        learning_rate: of AdamW, at the end of the warm-up; a cosine brings it to 0.
        warm_up: steps of linear rise.
        weight_decay: of AdamW.
        seed: fixes batches, dropout and initialisation.
        checkpoint_every: steps between checkpoints.
        bfloat16: run matrix products in bfloat16, weights kept in float32.
    """

    steps: int
    learning_rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 0.02
    seed: int = 0
    checkpoint_every: int = 500
    bfloat16: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.checkpoint_every < 1:
            raise OptionError("steps and checkpoint_every must be at least 1")


def run(
    network: nn.Module, step: Step, options: LoopOptions, checkpoint: Path, progress: Progress
) -> None:
    """Train the parameters of `network` that require a gradient, in place.

    A step draws everything random from a generator made of seed and step number, so a run that
    was interrupted and resumed gives the weights of one that was not.

    Args:
        network: its frozen parts have `requires_grad` off and stay in evaluation mode.
        step: computes the named losses of one batch from the step's generator.
        options: the schedule.
        checkpoint: resumed from if it exists; written aside and renamed.
        progress: called with steps done, their number, and running means of the losses.

    Raises:
        ModelError: the checkpoint was made with other options.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    done = _resume(network, optimizer, options, checkpoint)
    means: dict[str, float] = {}
    # Gradients fade below 1e-38 as masks become right, and a processor takes those many times slower.
    torch.set_flush_denormal(True)
    network.train()
    for index in range(done, options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(index, options)
        torch.manual_seed(options.seed * 1_000_003 + index)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            losses = step(np.random.default_rng([options.seed, index]))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        for name, loss in losses.items():
            means[name] = 0.98 * means.get(name, loss.item()) + 0.02 * loss.item()
        progress(index + 1, options.steps, means)
        if (index + 1) % options.checkpoint_every == 0 or index + 1 == options.steps:
            _save(network, optimizer, options, checkpoint, index + 1)
    network.eval()


def _schedule(index: int, options: LoopOptions) -> float:
    rise = min(1.0, (index + 1) / max(1, options.warm_up))
    return rise * 0.5 * (1 + math.cos(math.pi * index / options.steps))


def _resume(
    network: nn.Module, optimizer: torch.optim.Optimizer, options: LoopOptions, checkpoint: Path
) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    if state["options"] != asdict(options):
        raise ModelError(
            f"the checkpoint was made with {state['options']}, not {asdict(options)}",
            file=checkpoint,
            remedy="delete it to start anew",
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: LoopOptions,
    checkpoint: Path,
    step: int,
) -> None:
    aside = checkpoint.with_suffix(".partial")
    state = {
        "step": step,
        "options": asdict(options),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, aside)
    aside.replace(checkpoint)
