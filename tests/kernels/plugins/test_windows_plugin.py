# SPDX-License-Identifier: Apache-2.0
"""The plugin of windows mode, the lengths of whose outputs are the values of an input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.kernels.plugins.mock_host import host as mock
from tests.kernels.plugins.mock_host.host import EVERY, Field, Library, Tensor

from foveate.export.engines.plugins import choose
from foveate.export.execution.stage_model import custom_ops
from foveate.export.execution.stages import paste_stage
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.kernels.mask_boxes.reference import paste, tight_box
from foveate.system.tensorrt import TARGETS

MISSING = mock.what_is_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

OP = "BilinearUpsample2d"
WINDOWS = (Field("mode", "windows"), Field("threshold", -0.5))
UNKNOWN = (Tensor((-1, 160, 160)), Tensor((-1, 4)), Tensor((2,), mock.INT64))


def test_the_node_that_the_exporter_writes_is_computed_by_the_plugin(library: Library) -> None:
    model = export_stage(paste_stage(56, -0.25))
    split = [line.split(" | ") for line in library.creators()]
    creators = [(name, version, space) for _, name, version, space in split]
    chosen = choose(custom_ops(model), creators, TARGETS["tensorrt"], library=True)
    assert chosen == {OP: "plugin"}
    (node,) = model.graph.node
    values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    fields = [
        Field(name, value.decode() if isinstance(value, bytes) else value)
        for name, value in values.items()
    ]
    plugin = library.made(OP, *fields)
    assert plugin.serialized() == ["mode 6 7 windows", "threshold 1 1 -0.250000"]
    (shape,) = values["tensorrt_plugin_shape_input_indices"]
    assert list(node.input) == ["logits", "geometry", "size", "size"]
    assert node.input[shape] == "size"
    assert plugin.shape(*UNKNOWN, values=[(480, 641)]) == "i0d0 480 (641 ceil/ 32) / i0d0 / i0d0 4"


def test_pasting_returns_one_mask_per_window_in_words_of_the_image(library: Library) -> None:
    plugin = library.made(OP, *WINDOWS)
    shapes = "i0d0 v0d0 (v0d1 ceil/ 32) / i0d0 / i0d0 4"
    assert plugin.shape(*UNKNOWN, values=[(-1, -1)]) == shapes
    fixed = plugin.shape(Tensor((0, 160, 160)), *UNKNOWN[1:], values=[(480, -1)])
    assert fixed == "0 480 (v0d1 ceil/ 32) / 0 / 0 4"


@pytest.mark.parametrize(
    ("inputs", "values", "found"),
    [
        (UNKNOWN, [], "3 input(s) of rank 3 2 1 and 0 shape(s)"),
        (UNKNOWN[:2], [(480, 640)], "2 input(s) of rank 3 2 and 1 shape(s)"),
        (UNKNOWN, [(480, 640, 3)], "3 input(s) of rank 3 2 1 and 1 shape(s)"),
        ((Tensor((-1, 1, 9, 9)), *UNKNOWN[1:]), [(480, 640)], "3 input(s) of rank 4 2 1 and 1"),
    ],
)
def test_pasting_needs_the_size_twice(
    inputs: tuple[Tensor, ...], values: list[tuple[int, ...]], found: str, library: Library
) -> None:
    assert library.made(OP, *WINDOWS).shape(*inputs, values=values) == ""
    expected = "logits (K, S, S), geometry (K, 4), size (2,), and the size as a shape, found "
    assert expected + found in library.log()


def pasted(windows: int, samples: int, height: int, width: int, kind: int = 0) -> list[Tensor]:
    """Return the inputs and outputs of windows mode."""
    return [
        Tensor((windows, samples, samples), kind),
        Tensor((windows, 4)),
        Tensor((2,), mock.INT64),
        Tensor((windows, height, -(-width // 32)), mock.INT32),
        Tensor((windows,), mock.INT32),
        Tensor((windows, 4)),
    ]


def test_pasting_supports_dense_tensors_of_one_type_each(library: Library) -> None:
    plugin = library.made(OP, *WINDOWS)
    for place, tensor in enumerate(pasted(9, 56, 480, 640)):
        found = []
        for one in EVERY:
            tensors = pasted(9, 56, 480, 640)
            tensors[place] = Tensor(tensor.dims, *one)
            found += [one] if plugin.supports(place, *tensors) else []
        halves = [(mock.FLOAT16, mock.LINEAR)] if place == 0 else []
        assert found == [(tensor.type, mock.LINEAR), *halves]
    types = plugin.output_types(mock.FLOAT16, mock.FLOAT32, mock.INT64)
    assert types == [mock.INT32, mock.INT32, mock.FLOAT32]


@pytest.mark.parametrize("call", ["configure", "change_shape"])
@pytest.mark.parametrize(
    ("place", "wrong", "text"),
    [
        (0, Tensor((9, 56, 57)), "logits (K, S, S), float32 or float16 in format 0, found float32"),
        (1, Tensor((8, 4)), "geometry (K, 4) float32 in format 0, found float32 (8, 4) in format"),
        (1, Tensor((9, 4), mock.FLOAT16), "geometry (K, 4) float32 in format 0, found float16"),
        (2, Tensor((2,), mock.INT32), "size (2,) int64 in format 0, found int32 (2) in format 0"),
        (2, Tensor((3,), mock.INT64), "size (2,) int64 in format 0, found int64 (3) in format 0"),
        (3, Tensor((9, 480), mock.INT32), "bits (K, H, words) int32 in format 0, found int32"),
        (4, Tensor((8,), mock.INT32), "areas (K,) int32 in format 0, found int32 (8)"),
        (5, Tensor((9, 5)), "boxes (K, 4) float32 in format 0, found float32 (9, 5)"),
        (3, Tensor((9, 2**25, 20), mock.INT32), "lengths below 33554432, found int32"),
    ],
)
def test_invalid_tensors_are_refused_before_a_run(
    call: str, place: int, wrong: Tensor, text: str, library: Library
) -> None:
    plugin = library.made(OP, *WINDOWS)
    tensors = pasted(9, 56, 480, 640)
    assert getattr(plugin, call)(*tensors) == 0
    tensors[place] = wrong
    assert getattr(plugin, call)(*tensors) != 0
    assert text in library.log()
    assert getattr(plugin, call)(*tensors[1:]) != 0
    assert "3 inputs and a shape, found 2 input(s)" in library.log()


def test_pasting_needs_five_numbers_per_band_of_64_rows(library: Library) -> None:
    plugin = library.made(OP, *WINDOWS)
    assert plugin.workspace(*pasted(9, 56, 480, 640)) == 4 * 5 * 9 * 8
    assert plugin.workspace(*pasted(9, 56, 1, 640)) == 4 * 5 * 9


@pytest.mark.parametrize("size", [(1, 1), (64, 32), (67, 97), (130, 33)])
@pytest.mark.parametrize("kind", [mock.FLOAT32, mock.FLOAT16])
def test_pasting_gives_the_masks_of_the_reference_in_an_image_of_any_width(
    kind: int, size: tuple[int, int], running: Library
) -> None:
    rng = np.random.default_rng(7)
    (height, width), words = size, -(-size[1] // 32)
    logits = rng.standard_normal((6, 14, 14)).astype((np.float32, np.float16)[kind])
    geometry = np.concatenate([rng.uniform(-20, 60, (6, 2)), rng.uniform(1, 90, (6, 2))], 1)
    geometry[4], geometry[5] = (0, 0, 0, 50), (-3, -3, 200, 200)
    given = [logits, geometry.astype(np.float32), np.array(size)]
    plugin = running.made(OP, *WINDOWS).restore().attach()
    tensors = pasted(6, 14, height, width, kind)
    assert plugin.change_shape(*tensors) == 0
    bits, areas = np.full((6, height, words), 77, np.int32), np.full(6, 77, np.int32)
    boxes = np.full((6, 4), np.nan, np.float32)
    workspace = np.full(plugin.workspace(*tensors), 0xA5, np.uint8)
    assert plugin.enqueue(tensors, given, [bits, areas, boxes], workspace) == 0
    spread = np.unpackbits(bits.view(np.uint8), axis=2, bitorder="little").astype(bool)
    assert not spread[:, :, width:].any()
    for k in range(6):
        mask, values = paste(logits[k], given[1][k].tolist(), -0.5, height, width)
        assert np.abs(values + 0.5).min() > 1e-5, "a pixel is too near to the threshold"
        np.testing.assert_array_equal(spread[k, :, :width], mask)
        assert areas[k] == mask.sum()
        assert tuple(boxes[k]) == tight_box(mask)


def test_without_windows_nothing_is_launched(library: Library) -> None:
    plugin = library.made(OP, *WINDOWS)
    tensors = pasted(0, 56, 480, 640)
    assert plugin.change_shape(*tensors) == 0
    assert plugin.enqueue(tensors, [None] * 3, [None] * 3) == 0
    assert library.log() == ""


@pytest.mark.parametrize("missing", range(3))
def test_pasting_without_an_input_is_refused(missing: int, library: Library) -> None:
    plugin = library.made(OP, *WINDOWS)
    tensors = pasted(1, 2, 3, 4)
    arrays: list[np.ndarray[Any, Any] | None] = [
        np.zeros((1, 2, 2), np.float32),
        np.zeros((1, 4), np.float32),
        np.array([3, 4]),
    ]
    arrays[missing] = None
    outputs = [np.zeros((1, 3, 1), np.int32), np.zeros(1, np.int32), np.zeros((1, 4), np.float32)]
    assert plugin.change_shape(*tensors) == 0
    assert plugin.enqueue(tensors, arrays, outputs, np.zeros(20, np.uint8)) == -1
    assert "found a null array that would be read or written (-1)" in library.log()
