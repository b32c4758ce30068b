# SPDX-License-Identifier: Apache-2.0
"""Validation during a training: on held-out images, without a trace in what is learned."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.samples.training import (
    NARROW,
    Masks,
    Scores,
    narrow_deepmask,
    narrow_run,
    silent,
    write_dataset,
    write_proposals,
)

from foveate.errors import DataError
from foveate.models.checkpoint import load_checkpoint, load_detector
from foveate.training.distributed import World
from foveate.training.original.batches import WindowSource
from foveate.training.original.objectives import MASK_WEIGHT, DeepMaskObjective
from foveate.training.original.run import run
from foveate.training.original.schedules import DEEPMASK
from foveate.training.original.train import Setup, TrainOptions, ValidatedTraining, train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HERE = World(device=torch.device("cpu"))
SHORT = DEEPMASK.shortened(epochs=1, epoch_steps=5, batch=2)
options = partial(narrow_run, steps=3, validate_every=2, validation_batches=2, seed=1)
OFTEN = TrainOptions(workers=0, checkpoint_every=2, validate_every=2, validation_batches=2)


def setup(*, held_out: bool) -> Setup:
    torch.manual_seed(0)
    source = WindowSource(Masks(), Scores(), score_share=0.5, seed=1)
    return Setup(
        name="narrow",
        objective=DeepMaskObjective(narrow_deepmask()),
        source=source,
        schedule=SHORT,
        held_out=source if held_out else None,
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training images, and two that are held out."""
    root = write_dataset(tmp_path_factory.mktemp("data"))
    shutil.move(write_dataset(root / "other", images=2) / "train", root / "validation")
    return root


def test_a_training_learns_the_same_with_and_without_validation(tmp_path: Path) -> None:
    states = []
    for held_out in (True, False):
        trained = setup(held_out=held_out)
        train(trained, OFTEN, tmp_path / str(held_out), HERE)
        states.append(trained.objective.network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_what_is_held_out_is_measured_in_turn_and_after_the_last_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reported: list[bool] = []

    def report(
        _task: str, _done: int, _total: int, losses: Mapping[str, float] | None = None, /
    ) -> None:
        reported.append("validation" in (losses or {}))

    train(setup(held_out=True), OFTEN, tmp_path, HERE, report)
    told = [text for text in caplog.messages if "validation after step" in text]
    assert [text.partition(" step ")[2].partition(":")[0] for text in told] == ["2", "4", "5"]
    assert reported == [False, True, True, True, True]
    curves = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the package tensorboard",
    )
    events = curves.EventAccumulator(str(tmp_path / "board" / "narrow"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation/mask")] == [2, 4, 5]


def test_the_objective_weighs_the_mean_losses_as_training_does() -> None:
    task = DeepMaskObjective(narrow_deepmask())
    losses = {"mask": torch.tensor(0.5), "score": torch.tensor(0.25)}
    assert task.total(losses).item() == MASK_WEIGHT * 0.5 + 0.25
    assert task.total({"mask": losses["mask"]}).item() == MASK_WEIGHT * 0.5
    assert task.total({"score": losses["score"]}).item() == 0.25


class Script:
    """A training whose held-out losses were written down beforehand."""

    def __init__(self, objectives: list[float]):
        self._objectives = iter(objectives)

    def step(self, index: int) -> dict[str, float]:
        return {"mask": float(index)}

    def measure(self, _batches: object) -> dict[str, float]:
        return {"objective": next(self._objectives)}

    def state_dict(self) -> dict[str, Any]:
        return {"network": {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert "network" in state


def test_only_a_lower_loss_is_the_best_also_after_an_interruption() -> None:
    told: list[tuple[int, bool]] = []

    def work(objectives: list[float]) -> ValidatedTraining:
        script: Any = Script(objectives)
        return ValidatedTraining(
            script,
            WindowSource(Masks(), None, score_share=0, seed=0),
            options=TrainOptions(validate_every=1, validation_batches=1),
            indices=range(1),
            steps=9,
            on_validation=lambda done, _, best: told.append((done, best)),
        )

    first = work([3.0, float("nan"), 2.0, 2.5])
    for index in range(4):
        assert first.step(index) == {"mask": index}
    again = work([2.2, 1.0])
    again.load_state_dict(first.state_dict())
    again.step(4)
    again.step(5)
    expected = [(1, True), (2, False), (3, True), (4, False), (5, False), (6, True)]
    assert told == expected


def test_the_best_network_is_kept_beside_the_last(dataset: Path, tmp_path: Path) -> None:
    how = options(dataset, tmp_path)
    last = run(how, silent)
    assert how.best == tmp_path / "deepmask.best.safetensors"
    best = load_checkpoint(how.best)
    assert set(best.info.training["validation"]) == {"mask", "score", "objective"}
    assert best.info.training["steps"] in {2, 3}
    assert best.info.proposals_sizes == NARROW
    assert load_checkpoint(last).info.training["steps"] == 3


def test_a_detector_is_validated_on_its_own_proposals(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = options(
        dataset,
        tmp_path / "without",
        network="multipathnet-resnet18",
        sizes={"width": 4},
        proposals=write_proposals(dataset, tmp_path / "proposals.json"),
        steps=1,
        batch=1,
    )
    run(how, silent)
    assert any("no held-out images to validate on" in text for text in caplog.messages)
    assert not how.best.exists()
    how = replace(how, output=tmp_path / "with", validation_proposals=how.proposals)
    run(how, silent)
    assert set(load_detector(how.best).info.training["validation"]) == {"class", "box", "objective"}


def test_held_out_images_of_other_classes_are_refused(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    file = tmp_path / "data" / "validation" / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["categories"][0]["name"] = "ring"
    file.write_text(json.dumps(content), encoding="utf-8")
    proposals = write_proposals(dataset, tmp_path / "proposals.json")
    how = options(
        tmp_path / "data",
        tmp_path / "run",
        network="multipathnet-resnet18",
        sizes={"width": 4},
        proposals=proposals,
        validation_proposals=proposals,
    )
    with pytest.raises(DataError, match="the training part lacks the classes .*annotations.json"):
        run(how, silent)
