# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling as a node of exported graphs."""

from __future__ import annotations

import torch

from foveate.models.layers import BilinearUpsample2d, _bilinear_upsample


def test_the_node_of_exported_graphs_is_the_same_operation() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 5, 4)
    torch.library.opcheck(_bilinear_upsample, (x, 3))
    assert torch.equal(_bilinear_upsample(x, 3), BilinearUpsample2d(scale=3)(x))


def test_export_keeps_the_operation_as_one_node() -> None:
    program = torch.export.export(BilinearUpsample2d(scale=2), (torch.rand(1, 2, 3, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["foveate.bilinear_upsample.default"]
