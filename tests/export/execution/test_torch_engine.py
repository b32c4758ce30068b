# SPDX-License-Identifier: Apache-2.0
"""Stages are compiled once per image size, and once for all numbers of rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from foveate.export.execution.stages import Stage
from foveate.export.execution.torch_engines import _function


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * 2 + x.shape[0])


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Count the graphs, which run uncompiled, so that no C++ compiler is needed."""
    counter = CompileCounter()
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    return counter


def stage(example: Tensor, dynamic: dict[int, str]) -> Stage:
    return Stage(
        name="scale", module=Scale(), inputs={"x": example}, dynamic={"x": dynamic}, outputs=("y",)
    )


def test_any_number_of_rows_shares_a_graph(counter: CompileCounter) -> None:
    own = stage(torch.zeros(3, 5), {0: "windows"})
    compiled, eager = _function(own, False, True), _function(own, False, False)
    for rows in (3, 7, 100, 2):
        x = torch.randn(rows, 5).numpy()
        assert (compiled({"x": x})["y"] == eager({"x": x})["y"]).all()
    assert counter.frame_count == 1
    assert compiled({"x": torch.zeros(1, 5).numpy()})["y"].tolist() == [[1.0] * 5]


def test_every_size_of_an_image_has_a_graph_of_its_own(counter: CompileCounter) -> None:
    """None is refused in a thread like the pipeline's, although PyTorch's own limit is 8."""
    function = _function(stage(torch.zeros(1, 3, 4, 4), {2: "height", 3: "width"}), True, True)
    sides = [side for side in range(4, 16) for _ in range(2)]
    with ThreadPoolExecutor(1) as thread:
        list(thread.map(lambda n: function({"x": np.zeros((1, 3, n, n), np.float32)}), sides))
    assert counter.frame_count == 12
