# SPDX-License-Identifier: Apache-2.0
"""The loop: resumed runs end as uninterrupted ones, and checkpoints fit their options."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from foveate.errors import ModelError, OptionError
from foveate.training.loop import LoopOptions, Losses, train_adamw
from foveate.training.resume import Origin, ResumeFile, fingerprint

OPTIONS = LoopOptions(steps=12, checkpoint_every=4, warm_up=3, seed=5)


class StoppedError(Exception):
    pass


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


def train(
    module: nn.Module, checkpoint: Path, stop_at: int = 0, start: dict[str, str] | None = None
) -> dict[str, float]:
    final: dict[str, float] = {}

    def step(rng: np.random.Generator) -> Losses:
        x = torch.from_numpy(rng.normal(size=(32, 6)).astype(np.float32))
        return {"square": (module(x) - x.sum(1, keepdim=True)).square().mean()}

    def progress(
        task: str, done: int, total: int, losses: Mapping[str, float] | None = None, /
    ) -> None:
        assert task == "network"
        assert total == OPTIONS.steps
        final.update(losses or {})
        if done == stop_at:
            raise StoppedError

    origin = Origin(options=start or {})
    train_adamw(module, step, OPTIONS, checkpoint, task="network", progress=progress, origin=origin)
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

    train_adamw(
        module,
        step,
        LoopOptions(steps=200, learning_rate=0.1, warm_up=5),
        tmp_path / "c",
        task="network",
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
    with pytest.raises(ModelError, match="delete it to start again"):
        train_adamw(network(), lambda _: {}, other, tmp_path / "c", task="network")


def test_no_steps_are_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        LoopOptions(steps=0)


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_kept(tmp_path: Path) -> None:
    module = network()
    calls = itertools.count(1)

    def step(rng: np.random.Generator) -> Losses:
        x = torch.from_numpy(rng.normal(size=(4, 6)).astype(np.float32))
        loss = module(x).square().mean()
        return {"fine": loss, "broken": loss * (float("nan") if next(calls) == 7 else 1)}

    with pytest.raises(ModelError, match=r"loss 'broken' became nan at step 7: the last"):
        train_adamw(module, step, OPTIONS, tmp_path / "c", task="network")
    state = torch.load(tmp_path / "c", weights_only=True)
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    module = nn.Linear(6, 1)

    def step(rng: np.random.Generator) -> Losses:
        # The square root's slope at 0 is infinite: the loss is fine, its gradient is not.
        return {"root": (module(torch.zeros(1, 6)) * 0).abs().sqrt().sum()}

    options = LoopOptions(steps=1, bfloat16=False)
    with pytest.raises(ModelError, match=r"weights 'weight' are no longer finite after step 1"):
        train_adamw(module, step, options, tmp_path / "c", task="network")
    assert not (tmp_path / "c").exists()


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    train(network(), tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c").write_bytes(whole[:length])
        with pytest.raises(ModelError, match="truncated or of another kind.*delete it"):
            train(network(), tmp_path / "c")


def test_a_pickle_of_anything_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "c")
    with pytest.raises(ModelError, match="does not contain a training run"):
        train(network(), tmp_path / "c")


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    train(network(), tmp_path / "c")
    with pytest.raises(ModelError, match="does not fit this network.*size mismatch"):
        train(
            nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 1)), tmp_path / "c"
        )


def test_the_difference_of_options_is_named(tmp_path: Path) -> None:
    ResumeFile(tmp_path / "c", Origin(options={"seed": 1, "batch": 32})).write(0, {})
    with pytest.raises(ModelError, match="was made with batch 32, not 16: "):
        ResumeFile(tmp_path / "c", Origin(options={"seed": 1, "batch": 16})).read()


def test_other_weights_than_the_run_began_with_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, other = nn.Linear(6, 8), nn.Linear(6, 8)
    digests = [fingerprint(one) for one in (first, other)]
    assert len(digests[0]) == 12
    assert digests[0] == fingerprint(first) != digests[1]
    train(network(), tmp_path / "c", start={"initial": digests[0]})
    train(network(), tmp_path / "c", start={"initial": digests[0]})
    with pytest.raises(ModelError, match=f"initial '{digests[0]}', not '{digests[1]}'"):
        train(network(), tmp_path / "c", start={"initial": digests[1]})
    with pytest.raises(ModelError, match=f"initial '{digests[0]}', not None"):
        train(network(), tmp_path / "c")


def test_a_part_that_does_not_count_leaves_the_digest_as_it_is() -> None:
    module = network()
    whole, part = fingerprint(module), fingerprint(module, without="3.")
    with torch.no_grad():
        module.get_parameter("3.bias").add_(1)
    assert fingerprint(module) != whole
    assert fingerprint(module, without="3.") == part


def test_a_full_disk_leaves_the_file_before(tmp_path: Path) -> None:
    """A limit on the size of files makes a write fail as a full disk does."""
    resume = ResumeFile(tmp_path / "c", Origin(options={"seed": 1}))
    resume.write(3, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))
    try:
        with pytest.raises(
            ModelError,
            match=r"written after step 4 \(the file cannot be written \(File too large\)\): .*/c: "
            "free some space, or make the directory writable, and start again: the run resumes",
        ):
            resume.write(4, {"weights": torch.ones(1 << 14)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["c"]
    state = resume.read()
    assert state is not None
    assert state["step"] == 3


def test_space_is_not_to_be_freed_for_a_state_whose_directory_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ModelError, match=r"Not a directory\)\): .*/c: make the directory writable, "
    ):
        ResumeFile(tmp_path / "file" / "c", Origin()).write(4, {})


def test_tiny_numbers_are_what_they_were_after_training(tmp_path: Path) -> None:
    train(network(), tmp_path / "c")
    assert torch.tensor(1e-40).mul(1.0).item() > 0


@pytest.mark.parametrize("instruction", ["", "avx512_bf16", "amx_tile"])
def test_bfloat16_is_the_default_only_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instruction: str
) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(
            torch.cpu, f"_is_{name}_supported", lambda name=name: name == instruction
        )
    assert LoopOptions(steps=1).bfloat16 is bool(instruction)
