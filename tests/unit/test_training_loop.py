# SPDX-License-Identifier: Apache-2.0
"""The loop: resumed runs end as uninterrupted ones, and checkpoints fit their options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from foveate.errors import ModelError, OptionError
from foveate.training.loop import LoopOptions, Losses, run

OPTIONS = LoopOptions(steps=12, checkpoint_every=4, warm_up=3, seed=5)


class StoppedError(Exception):
    pass


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


def train(module: nn.Module, checkpoint: Path, stop_at: int = 0) -> dict[str, float]:
    final: dict[str, float] = {}

    def step(rng: np.random.Generator) -> Losses:
        x = torch.from_numpy(rng.normal(size=(32, 6)).astype(np.float32))
        return {"square": (module(x) - x.sum(1, keepdim=True)).square().mean()}

    def progress(done: int, total: int, losses: dict[str, float]) -> None:
        assert total == OPTIONS.steps
        final.update(losses)
        if done == stop_at:
            raise StoppedError

    run(module, step, OPTIONS, checkpoint, progress)
    return final


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = network()
    train(whole, tmp_path / "whole")
    broken = network()
    with pytest.raises(StoppedError):
        train(broken, tmp_path / "broken", stop_at=10)
    resumed = network()
    train(resumed, tmp_path / "broken")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    module = nn.Linear(6, 1)
    first: list[float] = []
    last: list[float] = []
    target = torch.arange(6.0)[:, None]

    def step(rng: np.random.Generator) -> Losses:
        x = torch.from_numpy(rng.normal(size=(64, 6)).astype(np.float32))
        loss = (module(x) - x @ target).square().mean()
        (last if first else first).append(loss.item())
        return {"square": loss}

    run(
        module,
        step,
        LoopOptions(steps=200, learning_rate=0.1, warm_up=5),
        tmp_path / "c",
        lambda *_: None,
    )
    assert last[-1] < 0.01 * first[0]


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    module = network()
    frozen = next(module.parameters()).requires_grad_(False)
    before = frozen.clone()
    train(module, tmp_path / "c")
    assert torch.equal(frozen, before)


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    train(network(), tmp_path / "c")
    other = LoopOptions(steps=13)
    with pytest.raises(ModelError, match="delete it to start anew"):
        run(network(), lambda _: {}, other, tmp_path / "c", lambda *_: None)


def test_no_steps_are_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        LoopOptions(steps=0)
