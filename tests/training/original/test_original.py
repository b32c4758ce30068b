# SPDX-License-Identifier: Apache-2.0
"""The published training: three optimizers, what is frozen, resuming, precision, the files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.samples.training import (
    Masks,
    Regions,
    Scores,
    narrow_deepmask,
    narrow_detector,
    narrow_sharpmask,
)
from torch import nn

from foveate.errors import BackendError, ModelError, OptionError
from foveate.training.distributed import World, open_world
from foveate.training.loader import Loader, draw_batch
from foveate.training.original.batches import RegionSource, WindowSource
from foveate.training.original.objectives import (
    MASK_WEIGHT,
    DeepMaskObjective,
    MultiPathNetObjective,
    SharpMaskObjective,
)
from foveate.training.original.schedules import (
    DEEPMASK,
    FAST_RCNN,
    MULTIPATHNET,
    SHARPMASK,
    Schedule,
)
from foveate.training.original.sgd import SgdTraining, choose_precision
from foveate.training.original.train import Setup, TrainOptions, train

HERE = World(device=torch.device("cpu"))
SHORT = DEEPMASK.shortened(epochs=3, epoch_steps=4, batch=2)


class StoppedError(Exception):
    pass


def window_source(schedule: Schedule = SHORT) -> WindowSource:
    return WindowSource(Masks(), Scores(), score_share=schedule.score_share, seed=0)


def region_source() -> RegionSource:
    return RegionSource(Regions(), heads=6, seed=0)  # type: ignore[arg-type]  # a stand-in


def deepmask_setup(schedule: Schedule = SHORT) -> Setup:
    torch.manual_seed(0)
    return Setup(
        name="deepmask-narrow",
        objective=DeepMaskObjective(narrow_deepmask()),
        source=window_source(schedule),
        schedule=schedule,
    )


def sgd(task: Any, schedule: Schedule, source: Any, **options: Any) -> SgdTraining:
    loader = Loader(source, indices=range(schedule.batch), seed=0, steps=schedule.steps, workers=0)
    return SgdTraining(task, schedule, loader, HERE, **options)


def changed(before: Mapping[str, torch.Tensor], module: nn.Module) -> set[str]:
    after = module.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def first_step(source: WindowSource, head: str) -> int:
    return next(step for step in itertools.count() if source.head(step) == head)


def test_heads_alternate_at_the_published_share() -> None:
    source = window_source()
    heads = [source.head(step) for step in range(1000)]
    assert 0.45 < heads.count("score") / len(heads) < 0.55
    only_masks = WindowSource(Masks(), None, score_share=0.0, seed=0)
    assert {only_masks.head(step) for step in range(100)} == {"mask"}


def test_all_samples_of_a_batch_train_the_same_head() -> None:
    source = window_source()
    for head, shape in (("mask", (3, 112, 112)), ("score", (3,))):
        batch = draw_batch(source, range(3), 0, first_step(source, head)).batch
        assert batch.head == head
        assert batch.labels.shape == shape
        assert batch.patches.shape == (3, 192, 192, 3)


@pytest.mark.parametrize(("head", "idle"), [("mask", "score"), ("score", "mask")])
def test_a_batch_changes_the_trunk_and_its_own_head_only(head: str, idle: str) -> None:
    task = DeepMaskObjective(narrow_deepmask())
    work = sgd(task, SHORT, window_source())
    before = copy_of(task.network)
    step = first_step(window_source(), head)
    work.step(step)
    work.step(step)
    parts = {name.partition(".")[0] for name in changed(before, task.network)}
    assert parts == {"trunk", "neck", "embed", head}
    assert work.optimizers[idle].state == {}


def test_the_three_optimizers_share_no_weight_and_leave_none_out() -> None:
    task = DeepMaskObjective(narrow_deepmask())
    owned = [
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in sgd(task, SHORT, window_source()).optimizers.values()
    ]
    assert len(owned) == 3
    assert not any(one & other for one, other in itertools.combinations(owned, 2))
    assert set().union(*owned) == {id(p) for p in task.network.parameters() if p.requires_grad}


def test_an_idle_heads_momentum_is_untouched() -> None:
    task = DeepMaskObjective(narrow_deepmask())
    work = sgd(task, SHORT, window_source())
    work.step(first_step(window_source(), "score"))
    before = [s["momentum_buffer"].clone() for s in work.optimizers["score"].state.values()]
    work.step(first_step(window_source(), "mask"))
    after = [s["momentum_buffer"] for s in work.optimizers["score"].state.values()]
    assert len(before) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_mask_loss_weighs_as_much_as_lambda_says() -> None:
    task = DeepMaskObjective(narrow_deepmask())
    assert MASK_WEIGHT == 1 / (1 / 32)
    assert task.total({"mask": torch.tensor(2.0)}).item() == 64
    assert task.total({"score": torch.tensor(2.0)}).item() == 2


def test_sharpmask_weighs_its_mask_loss_as_deepmask_does() -> None:
    assert SharpMaskObjective(narrow_sharpmask()).total({"mask": torch.tensor(2.0)}).item() == 64


def test_a_detector_weighs_both_losses_equally() -> None:
    losses = {"class": torch.tensor(2.0), "box": torch.tensor(0.5)}
    assert MultiPathNetObjective(narrow_detector()).total(losses).item() == 2.5


def test_a_step_is_plain_sgd_with_momentum_and_decay() -> None:
    """Two steps on the mask head, written out: v = 0.9 v + (g + 5e-4 w); w = w - lr v."""
    task = DeepMaskObjective(narrow_deepmask())
    work = sgd(task, SHORT, window_source())
    step = first_step(window_source(), "mask")
    weight = task.network.mask.weight
    velocity = torch.zeros_like(weight)
    for _ in range(2):
        expected = weight.detach().clone()
        work.step(step)
        assert weight.grad is not None
        velocity = 0.9 * velocity + weight.grad + 5e-4 * expected
        expected -= 1e-3 * velocity
        assert torch.allclose(weight, expected, rtol=0, atol=1e-7)


def test_sharpmask_leaves_its_deepmask_alone() -> None:
    task = SharpMaskObjective(narrow_sharpmask())
    schedule = SHARPMASK.shortened(epochs=1, epoch_steps=2, batch=2)
    work = sgd(task, schedule, WindowSource(Masks(160), None, score_share=0.0, seed=0))
    before = copy_of(task.network)
    work.step(0)
    assert not any(name.startswith("deepmask.") for name in changed(before, task.network))
    learned = {name for name, p in task.network.named_parameters() if p.grad is not None}
    assert learned == {name for name in before if not name.startswith("deepmask.")}
    assert not task.network.deepmask.training


def test_multipathnet_trains_everything_but_its_trunk() -> None:
    task = MultiPathNetObjective(narrow_detector())
    schedule = MULTIPATHNET.shortened(epochs=1, epoch_steps=2, batch=2)
    work = sgd(task, schedule, region_source())
    before = copy_of(task.network)
    losses = work.step(0)
    assert set(losses) == {"class", "box"}
    moved = {name.partition(".")[0] for name in changed(before, task.network)}
    assert moved == {"class_towers", "box_tower", "class_heads", "box_head"}


def test_a_step_trains_one_integral_head() -> None:
    source = region_source()
    assert {source.head(step) for step in range(100)} == set(range(6))
    task = MultiPathNetObjective(narrow_detector())
    work = sgd(task, MULTIPATHNET.shortened(epochs=1, epoch_steps=9, batch=1), source)
    before = copy_of(task.network)
    work.step(3)
    heads = {n.split(".")[1] for n in changed(before, task.network) if n.startswith("class_heads")}
    assert heads == {str(source.head(3))}


def test_fast_rcnns_biases_are_not_decayed() -> None:
    work = sgd(MultiPathNetObjective(narrow_detector()), FAST_RCNN, region_source())
    groups = work.optimizers["detector"].param_groups
    decays = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in groups}
    assert decays[0.0] == {1}
    assert 1 not in decays[5e-4]


def test_a_fall_of_the_rate_shrinks_the_momentum_where_published() -> None:
    schedule = FAST_RCNN.shortened(epochs=4, epoch_steps=1, batch=1)
    task = MultiPathNetObjective(narrow_detector())
    work = sgd(task, schedule, region_source())
    for index in range(3):
        work.step(index)
    optimizer = work.optimizers["detector"]
    weight = task.network.box_head.bias
    before = optimizer.state[weight]["momentum_buffer"].clone()
    work.step(3)
    after = optimizer.state[weight]["momentum_buffer"]
    assert weight.grad is not None
    assert torch.allclose(after, 0.9 * 0.1 * before + weight.grad, rtol=1e-5, atol=1e-9)
    assert optimizer.param_groups[0]["lr"] == 1e-4


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, workers: int
) -> None:
    options = TrainOptions(workers=workers, checkpoint_every=3)
    whole = deepmask_setup()
    train(whole, replace(options, workers=0), tmp_path / "whole", HERE)

    def stop(_task: str, done: int, _total: int, _losses: object = None, /) -> None:
        if done == 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(deepmask_setup(), options, tmp_path / "broken", HERE, stop)
    torch.manual_seed(99)
    resumed = deepmask_setup()
    seen: list[int] = []
    train(resumed, options, tmp_path / "broken", HERE, lambda _task, done, *_: seen.append(done))
    assert seen == list(range(7, 13))
    assert changed(copy_of(whole.objective.network), resumed.objective.network) == set()
    one, other = (
        torch.load(tmp_path / run / "deepmask-narrow.training", weights_only=True)["optimizers"]
        for run in ("whole", "broken")
    )
    for part, state in one.items():
        assert state["param_groups"] == other[part]["param_groups"]
        for key, value in state["state"].items():
            found = other[part]["state"][key]["momentum_buffer"]
            assert torch.equal(value["momentum_buffer"], found)


def test_a_training_of_another_schedule_is_not_resumed(tmp_path: Path) -> None:
    options = TrainOptions(workers=0)
    short = SHORT.shortened(epochs=1, epoch_steps=1)
    train(deepmask_setup(short), options, tmp_path, HERE)
    longer = SHORT.shortened(epochs=2, epoch_steps=1)
    with pytest.raises(ModelError, match=r"was made with epochs 1, not 2, learning_rates"):
        train(deepmask_setup(longer), options, tmp_path, HERE)


def test_a_loss_that_is_not_finite_ends_the_training_and_changes_nothing(tmp_path: Path) -> None:
    setup = deepmask_setup()
    with torch.no_grad():
        next(iter(setup.objective.network.parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"the loss '(mask|score)' became nan at step 1"):
        train(setup, TrainOptions(workers=0), tmp_path, HERE)
    assert not (tmp_path / "deepmask-narrow.training").exists()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_float32_weights(precision: str) -> None:
    losses = {}
    for name in ("float32", precision):
        torch.manual_seed(0)
        task = DeepMaskObjective(narrow_deepmask())
        work = sgd(task, SHORT, window_source(), precision=choose_precision(name, HERE.device))
        before = copy_of(task.network)
        losses[name] = work.step(first_step(window_source(), "mask"))["mask"]
        assert {p.dtype for p in task.network.parameters()} == {torch.float32}
        assert "mask.weight" in changed(before, task.network)
    assert losses["float32"] != losses[precision] == pytest.approx(losses["float32"], rel=0.01)


def test_automatic_precision_on_a_processor_is_float32() -> None:
    assert choose_precision("auto", torch.device("cpu")) == "float32"
    with pytest.raises(OptionError, match="no precision is named 'half': use auto"):
        choose_precision("half", torch.device("cpu"))


def test_tensorboard_gets_curves_and_images(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the package tensorboard",
    )
    options = TrainOptions(workers=0, checkpoint_every=6, scalars_every=2)
    train(deepmask_setup(), options, tmp_path, HERE)
    events = event_accumulator.EventAccumulator(str(tmp_path / "board" / "deepmask-narrow"))
    events.Reload()
    rates = [(event.step, event.value) for event in events.Scalars("rate")]
    assert rates[0] == (2, pytest.approx(1e-3))
    assert rates[-1] == (12, pytest.approx(1e-4))
    assert {"loss/mask", "loss/score", "samples a second"} <= set(events.Tags()["scalars"])
    images = events.Images("samples")
    assert [event.step for event in images] == [6, 12]
    decoded = cv2.imdecode(np.frombuffer(images[0].encoded_image_string, np.uint8), 1)
    assert decoded is not None
    assert decoded.shape == (192, 2 * 192, 3)


def test_a_detectors_image_grid_is_its_image() -> None:
    task = MultiPathNetObjective(narrow_detector())
    batch = draw_batch(region_source(), range(2), 0, 0).batch
    task.network.eval()
    grid = task.image_grid(batch)
    assert grid.shape == batch.samples[0].image.shape
    assert not np.array_equal(grid, batch.samples[0].image)


def test_without_torchrun_there_is_one_process() -> None:
    with open_world("cpu") as here:
        assert (here.rank, here.size, here.is_main) == (0, 1, True)
        assert here.share(5) == range(5)
        assert here.agrees(True)
        assert here.agrees(False)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    two = World(device=torch.device("cpu"), rank=1, size=2)
    assert two.share(6) == range(3, 6)
    with pytest.raises(OptionError, match="batch of 5 cannot be split evenly over 2 processes"):
        two.share(5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_trains_in_lower_precision(tmp_path: Path) -> None:
    with open_world("cuda") as here:
        setup = deepmask_setup()
        setup.objective.network.to(here.device)
        assert choose_precision("auto", here.device) != "float32"
        train(setup, TrainOptions(workers=0), tmp_path, here)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_a_clear_error() -> None:
    with (
        pytest.raises(BackendError, match="needs a GPU of its own, PyTorch finds 0"),
        open_world("cuda"),
    ):
        pass
