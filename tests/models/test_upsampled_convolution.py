# SPDX-License-Identifier: Apache-2.0
"""A convolution of an upsampled map, computed by phases before the upsampling."""

import pytest
import torch
from torch import Tensor, nn

from foveate.models.layers import BilinearUpsample2d, convolution
from foveate.models.upsampled_convolution import by_phases, convolve_upsampled


class Upsampled(nn.Module):
    def __init__(self, upsample: nn.Module, conv: nn.Conv2d):
        super().__init__()
        self.upsample, self.conv = upsample, conv

    def forward(self, x: Tensor) -> Tensor:
        return convolve_upsampled(self.upsample, self.conv, x)


def has_phases(upsample: nn.Module, conv: nn.Conv2d) -> bool:
    """Return whether an exported graph rearranges phases to pixels."""
    x = torch.rand(1, conv.in_channels, 6, 6)
    program = torch.export.export(Upsampled(upsample, conv).eval(), (x,))
    torch.testing.assert_close(program.module()(x), conv(upsample(x)), rtol=1e-5, atol=1e-5)
    return "pixel_shuffle" in str(program.graph)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (16, 7)])
def test_phases_are_exact_to_the_edges_and_corners(size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 2, 3, padding=1, bias=bias, dtype=torch.float64)
    upsample, x = BilinearUpsample2d(2), torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(
            by_phases(upsample, conv, x), conv(upsample(x)), rtol=0, atol=1e-14
        )


def test_an_exported_graph_computes_few_outputs_by_phases() -> None:
    assert has_phases(BilinearUpsample2d(2), nn.Conv2d(8, 4, 3, padding=1))


@pytest.mark.parametrize(
    ("upsample", "conv"),
    [
        (BilinearUpsample2d(2), nn.Conv2d(8, 5, 3, padding=1)),  # they fill the registers as it is
        (BilinearUpsample2d(3), nn.Conv2d(8, 4, 3, padding=1)),
        (nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(8, 4, 3, padding=1)),
        (BilinearUpsample2d(2), nn.Conv2d(8, 4, 1)),
        (BilinearUpsample2d(2), nn.Conv2d(8, 4, 3)),
        (BilinearUpsample2d(2), nn.Conv2d(8, 4, 3, padding=1, stride=2)),
        (BilinearUpsample2d(2), nn.Conv2d(8, 4, 3, padding=1, groups=2)),
        (BilinearUpsample2d(2), nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect")),
        (BilinearUpsample2d(2), convolution(8, 4, 3, padding="symmetric")),
    ],
)
def test_everything_else_is_exported_as_it_is(upsample: nn.Module, conv: nn.Conv2d) -> None:
    assert not has_phases(upsample, conv)
