# SPDX-License-Identifier: Apache-2.0
"""Counts of operations and bytes: by hand, by shape inference, and in every precision."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.export.precision.test_entry import beginning, quantized

from foveate.bench.work import StageWork, _arithmetic, count_work
from foveate.bundle import Bundle
from foveate.errors import BackendError, BundleError
from foveate.export.execution.graph import layers
from foveate.export.precision.float16 import to_float16

NETWORK = """
<ir_version: 9, opset_import: ["" : 18]>
network (float[1, 4, height, width] image) => (float[1, 5, tall, wide] grown, float[1, 7] named)
{
    [first] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w_first, b_first)
    [second] b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (a, w_second)
    [third] c = Conv <kernel_shape = [1, 1]> (b, w_third)
    [fourth] grown = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (c, w_fourth)
    means = GlobalAveragePool (c)
    flat = Flatten (means)
    [fifth] named = Gemm <transB = 1> (flat, w_fifth)
}
"""
WEIGHTS = {
    "w_first": (8, 4, 3, 3),
    "b_first": (8,),
    "w_second": (8, 1, 3, 3),
    "w_third": (6, 8, 1, 1),
    "w_fourth": (6, 5, 2, 2),
    "w_fifth": (7, 6),
}
CELLS = 12 * 10


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onnx.parser.parse_model(NETWORK)
    chance = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        values = chance.standard_normal(shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return saved(model, tmp_path_factory.mktemp("work") / "network.onnx")


def saved(model: onnx.ModelProto, file: Path) -> Path:
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def work(network: Path) -> StageWork:
    return count_work(network, [{"image": (1, 4, 12, 10)}])


def test_operations_are_those_counted_by_hand(work: StageWork) -> None:
    assert work.operations_by_kind() == {
        ("dense", "fp32"): 2 * (8 * CELLS * 4 * 9 + 6 * CELLS * 5 * 4),
        ("depthwise", "fp32"): 2 * 8 * CELLS * 9,
        ("pointwise", "fp32"): 2 * 6 * CELLS * 8,
        ("product", "fp32"): 2 * 6 * 7,
    }
    assert work.operations == sum(work.operations_by_kind().values())


def test_bytes_of_a_stage_are_weights_inputs_and_outputs(work: StageWork) -> None:
    (run,) = work.runs
    assert run.weight_bytes == 4 * sum(map(prod, WEIGHTS.values()))
    assert run.input_bytes == 4 * 4 * CELLS
    assert run.output_bytes == 4 * (5 * 4 * CELLS + 7)
    assert work.bytes == run.weight_bytes + run.input_bytes + run.output_bytes


def test_a_node_moves_what_it_reads_and_what_it_writes(work: StageWork) -> None:
    first = next(node for node in work.nodes if node.name == "first")
    assert (first.weight_bytes, first.read_bytes, first.written_bytes) == (
        4 * (8 * 4 * 9 + 8),
        4 * 4 * CELLS,
        4 * 8 * CELLS,
    )
    assert first.bytes == 4 * (8 * 4 * 9 + 8) + 4 * 4 * CELLS + 4 * 8 * CELLS
    assert work.node_bytes == sum(node.bytes for node in work.nodes) > work.bytes


def test_runs_of_several_sizes_are_told_apart_and_equal_ones_counted_again(network: Path) -> None:
    shapes = [{"image": (1, 4, rows, 10)} for rows in (12, 24, 12)]
    work = count_work(network, shapes)
    first, tall, again = (sum(node.operations for node in run.nodes) for run in work.runs)
    assert work.runs[0] == work.runs[2]
    gemm = 2 * 6 * 7
    assert tall - gemm == 2 * (first - gemm)
    assert work.operations == first + tall + again


@pytest.mark.parametrize(
    ("op", "inputs", "output", "expected"),
    [
        ("MatMul", [(5, 3, 4), (4, 6)], (5, 3, 6), 5 * 3 * 4 * 6),
        ("MatMul", [(5, 3, 4), (5, 4, 6)], (5, 3, 6), 5 * 3 * 4 * 6),
        ("MatMul", [(3, 4), (5, 4, 6)], (5, 3, 6), 5 * 3 * 4 * 6),
        ("MatMul", [(4,), (4, 6)], (6,), 4 * 6),
        ("MatMul", [(5, 3, 4), (4,)], (5, 3), 5 * 3 * 4),
        ("MatMul", [(4,), (4,)], (), 4),
        ("FusedMatMul", [(5, 4, 3), (5, 6, 4)], (5, 3, 6), 5 * 3 * 4 * 6),
        ("Gemm", [(4, 3), (6, 4), (6,)], (3, 6), 3 * 4 * 6),
        ("QGemm", [(3, 4), (), (), (4, 6), (), ()], (3, 6), 3 * 4 * 6),
        ("QLinearMatMul", [(3, 4), (), (), (4, 6), (), (), (), ()], (3, 6), 3 * 4 * 6),
        ("MatMulIntegerToFloat", [(3, 4), (4, 6), (), ()], (3, 6), 3 * 4 * 6),
        ("MatMul", [(0, 4), (4, 6)], (0, 6), 0),
    ],
)
def test_a_product_is_counted_from_shapes_alone(
    op: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], expected: int
) -> None:
    assert _arithmetic(op, inputs, [output]) == ("product", expected)


def test_a_convolution_from_one_map_to_one_is_not_depthwise() -> None:
    assert _arithmetic("Conv", [(1, 1, 8, 6), (1, 1, 3, 3)], [(1, 1, 8, 6)]) == ("dense", 48 * 9)
    assert _arithmetic("Conv", [(1, 2, 8, 6), (2, 1, 3, 3)], [(1, 2, 8, 6)]) == (
        "depthwise",
        2 * 48 * 9,
    )


def test_a_stage_has_the_operations_that_shape_inference_finds() -> None:
    """The shipped ``refine`` contains functions of ours, and halves behind a Cast."""
    mini = Bundle.open("mini")
    file = mini.stage_path("refine")
    inputs = mini.manifest.stages["refine"].inputs
    shapes = {one.name: (3, *map(int, one.shape[1:])) for one in inputs}
    macs = [layer.macs or 0 for layer in layers(onnx.load(file), shapes)]
    assert count_work(file, [shapes]).operations == 2 * sum(macs) > 0


def test_eight_bit_layers_are_counted_in_eight_bits(tmp_path: Path) -> None:
    model, shape = beginning(), (1, 3, 32, 32)
    chance = np.random.default_rng(1)
    calls = [{"image": chance.standard_normal(shape, np.float32)} for _ in range(2)]
    names = ["expand", "last", "dense"]
    exact = count_work(saved(model, tmp_path / "exact.onnx"), [{"image": shape}])
    file = saved(quantized(model, calls, names), tmp_path / "int8.onnx")
    found = count_work(file, [{"image": shape}])
    assert found.operations == exact.operations
    in_eight_bits = {key: n for key, n in found.operations_by_kind().items() if key[1] == "int8"}
    assert in_eight_bits == {
        ("dense", "int8"): 2 * 256 * 16 * 16 * 9,
        ("pointwise", "int8"): 2 * 256 * 2 * 16 * 96,
    }
    assert found.runs[0].weight_bytes < exact.runs[0].weight_bytes


def test_a_float16_stage_has_the_operations_of_the_float32_one(tmp_path: Path) -> None:
    mini = Bundle.open("mini")
    file, shapes = mini.stage_path("propose"), [{"image": (1, 3, 192, 208)}]
    half = saved(to_float16(onnx.load(file)), tmp_path / "half.onnx")
    exact, found = count_work(file, shapes), count_work(half, shapes)
    assert found.operations == exact.operations


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stage.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="ONNX Runtime cannot load a stage"):
        count_work(tmp_path / "stage.onnx", [{"image": (1, 3, 8, 8)}])


def test_shapes_that_the_stage_does_not_take_are_refused(network: Path) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        count_work(network, [{"image": (1, 3, 8, 8)}])
