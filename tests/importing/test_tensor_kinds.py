# SPDX-License-Identifier: Apache-2.0
"""Kinds of tensors in a file of PyTorch: what is read as float32, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foveate.errors import ModelError
from foveate.importing.imported_weights import ImportedWeights
from foveate.importing.pytorch import read_state
from foveate.models import build

Make = Callable[[torch.Tensor], torch.Tensor]
NUMBERS = torch.tensor([[-1.5, 2.0, 0.25], [3.0, -0.5, 4.0]])


def read(path: Path, made: torch.Tensor) -> torch.Tensor:
    torch.save({"weight": made, "other": torch.zeros(1)}, path / "x.pth")
    return read_state(path / "x.pth")["weight"]


@pytest.mark.parametrize(
    "make",
    [
        torch.nn.Parameter,
        lambda one: one.t().contiguous().t(),
        lambda one: one.clone().requires_grad_(),
        *(lambda one, dtype=dtype: one.to(dtype) for dtype in (torch.float64, torch.bfloat16)),
        lambda one: one.to(torch.float8_e4m3fn),
    ],
)
def test_floating_point_numbers_of_any_kind_become_dense_float32(
    tmp_path: Path, make: Make
) -> None:
    found = read(tmp_path, make(NUMBERS))
    assert type(found) is torch.Tensor
    assert not found.requires_grad
    torch.testing.assert_close(found, NUMBERS, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda one: one.to("meta"), r"torch\.float32, torch\.strided, on meta"),
        (lambda one: one.to_sparse(), r"torch\.float32, torch\.sparse_coo, on cpu"),
        (lambda one: one.to_sparse_csr(), r"torch\.float32, torch\.sparse_csr, on cpu"),
        (
            lambda one: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8),
            r"torch\.qint8, torch\.strided, on cpu",
        ),
        (lambda one: one.to(torch.complex64), r"torch\.complex64, torch\.strided, on cpu"),
        (lambda one: torch.nested.nested_tensor([one, one[:1]]), "nested, on cpu"),
    ],
)
def test_tensors_that_are_no_dense_real_numbers_are_refused(
    tmp_path: Path, make: Make, kind: str
) -> None:
    message = rf"expected dense real numbers in memory, found weight \({kind}\): .*x\.pth: save the"
    with pytest.raises(ModelError, match=message):
        read(tmp_path, make(NUMBERS))


def test_integers_are_no_weights() -> None:
    sizes = {"width": 2, "neck": 3, "vector": 4}
    state = build("deepmask-resnet50", **sizes).state_dict()
    state["trunk.conv1.weight"] = state["trunk.conv1.weight"].to(torch.int8)
    message = r"expected floating-point numbers in trunk\.conv1\.weight, found torch\.int8: import"
    with pytest.raises(ModelError, match=message):
        ImportedWeights(name="deepmask-resnet50", sizes=sizes, state=state).build()
