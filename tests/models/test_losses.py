# SPDX-License-Identifier: Apache-2.0
"""The losses against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from foveate.models.losses import box_loss, focal_loss, integral_loss, mask_loss, score_loss


def test_focal_loss_weighs_windows_by_the_square_of_their_error() -> None:
    logits, labels = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    right = torch.tensor([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.5))])
    weights = torch.tensor([0.25, 0.75, 0.75])
    expected = -(weights * (1 - right) ** 2 * right.log()).sum() / 8  # one positive counts as 8
    torch.testing.assert_close(focal_loss(logits, labels), expected)
    many = focal_loss(logits.repeat(16), labels.repeat(16))
    torch.testing.assert_close(many, 8 * expected)  # 16 times the sum for 16 positives


def test_score_loss_is_the_mean_of_logistic_losses() -> None:
    loss = score_loss(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0]))
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_mask_loss_is_the_mean_over_pixels() -> None:
    logits = torch.tensor([[[3.0, -3.0], [0.0, 0.0]]])
    labels = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    expected = (math.log1p(math.exp(-3)) + math.log1p(math.exp(3)) + 2 * math.log(2)) / 4
    assert mask_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_integral_loss_trains_each_head_on_its_own_labels() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 1] = 5.0
    labels = torch.tensor([[1, 1, -1], [0, 0, 0]])
    first = -5 + math.log(math.exp(5) + 3)
    expected = (first + math.log(4)) / 2
    assert integral_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_integral_loss_is_the_mean_of_all_six_heads() -> None:
    logits = torch.zeros(6, 1, 2)
    logits[:, 0, 1] = torch.tensor([0.1, 0.4, 0.9, 1.6, 2.5, 3.6])
    expected = sum(math.log1p(math.exp(-one)) for one in logits[:, 0, 1].tolist()) / 6
    loss = integral_loss(logits, torch.ones(6, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_integral_loss_of_one_head_is_its_cross_entropy() -> None:
    logits = torch.tensor([[[1.0, 2.0], [0.0, 0.5]]])
    labels = torch.tensor([[1, 0]])
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(0.5))) / 2
    assert integral_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_a_head_without_boxes_adds_nothing_to_the_integral_loss() -> None:
    logits = torch.zeros(2, 3, 4)
    labels = torch.tensor([[0, 1, 2], [-1, -1, -1]])
    assert integral_loss(logits, labels).item() == pytest.approx(math.log(4) / 2, rel=1e-6)


def test_box_loss_reads_the_true_class_of_foregrounds_only() -> None:
    deltas = torch.zeros(2, 3, 4)
    deltas[0, 2] = torch.tensor([0.5, 2.0, 0.0, 0.0])
    deltas[1] = 100.0
    targets = torch.zeros(2, 4)
    loss = box_loss(deltas, targets, torch.tensor([2, 0]))
    assert loss.item() == pytest.approx((0.5 * 0.25 + 1.5) / 2, rel=1e-6)


def test_box_loss_is_the_smooth_distance_from_the_target() -> None:
    deltas = torch.tensor([[[9.0] * 4, [0.5, -1.0, 3.0, 0.0]]])
    loss = box_loss(deltas, torch.tensor([[0.25, 1.0, 2.75, -3.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx((0.25**2 + 0.25**2) / 2 + 1.5 + 2.5, rel=1e-6)


def test_box_loss_without_foreground_is_zero_and_has_a_gradient() -> None:
    deltas = torch.zeros(2, 3, 4, requires_grad=True)
    loss = box_loss(deltas, torch.zeros(2, 4), torch.tensor([0, 0]))
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
    assert loss.item() == 0.0
    assert deltas.grad is not None
