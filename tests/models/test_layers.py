# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling as a node of exported graphs, and weights before they are read."""

from __future__ import annotations

import subprocess
import sys

import torch

from foveate.models.layers import BilinearUpsample2d, _bilinear_upsample, draw_weights


def test_the_node_of_exported_graphs_is_the_same_operation() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 5, 4)
    torch.library.opcheck(_bilinear_upsample, (x, 3))
    assert torch.equal(_bilinear_upsample(x, 3), BilinearUpsample2d(scale=3)(x))


def test_export_keeps_the_operation_as_one_node() -> None:
    program = torch.export.export(BilinearUpsample2d(scale=2), (torch.rand(1, 2, 3, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["foveate.bilinear_upsample.default"]


META = """
import sys
import torch
from foveate.models import build
with torch.device("meta"):
    for name in ("sharpmask-resnet50", "multipathnet-vgg16"):
        build(name)
assert "torch._dynamo" not in sys.modules
"""


def test_networks_whose_weights_will_be_read_are_built_without_the_compiler() -> None:
    """In a process of its own, since other tests import it."""
    subprocess.run([sys.executable, "-P", "-c", META], check=True)


def test_nothing_is_drawn_for_weights_on_the_meta_device() -> None:
    weight = torch.zeros(2, 3, 3, 3)
    before = torch.get_rng_state()
    draw_weights(weight.to("meta"))
    assert torch.equal(torch.get_rng_state(), before)
    draw_weights(weight)
    assert weight.std() > 0
