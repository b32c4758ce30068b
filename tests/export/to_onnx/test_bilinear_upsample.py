# SPDX-License-Identifier: Apache-2.0
"""Both function bodies of BilinearUpsample2d in ONNX Runtime, against the float64 reference."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from tests.samples.compiling import ARCHS, needs_rtx

from foveate.bundle import Bundle
from foveate.bundle.engine_key import ShapeRange
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.checks.bundle_report import check_report, inspect_bundle
from foveate.export.engines import CompileOptions, EngineCache, compile_bundle
from foveate.export.engines.shapes import engine_specs
from foveate.export.execution.stage_model import DOMAIN
from foveate.export.execution.stages import paste_stage
from foveate.export.to_onnx.bilinear_upsample_body import bilinear_upsample_body
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.kernels.mask_boxes import reference
from foveate.kernels.plugins.bilinear_upsample.reference import upsample
from foveate.models.checkpoint import CascadeInfo, build_cascade
from foveate.models.paste_windows import PasteWindows, _paste_windows
from foveate.runtime import load

SIDE, THRESHOLD = 12, -0.5
NEAR = 2e-5
"""Distance from the threshold, as a share of the largest logit, below which float32 may differ."""


@cache
def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def paste_model() -> onnx.ModelProto:
    return export_stage(paste_stage(SIDE, THRESHOLD))


def paste(
    logits: np.ndarray, geometry: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the body, and return masks as booleans, areas and boxes."""
    inputs = {"logits": logits, "geometry": geometry, "size": np.array([height, width])}
    bits, areas, boxes = session(paste_model().SerializeToString()).run(None, inputs)
    assert (bits.dtype, areas.dtype, boxes.dtype) == (np.int32, np.int32, np.float32)
    assert bits.shape == (len(logits), height, -(-width // 32))
    columns = np.arange(32 * bits.shape[2])
    masks = (bits[:, :, columns // 32] >> (columns % 32)) & 1 == 1
    assert not masks[:, :, width:].any()
    return masks[:, :, :width], areas, boxes


def random_windows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return windows inside, across the border, outside, tiny, on halves, and next to halves."""
    place, size = rng.uniform(-30, 45, (count, 2)), rng.uniform(0.2, 60, (count, 2))
    geometry = np.column_stack([place, size]).astype(np.float32)
    third = count // 3
    geometry[:third] = np.round(2 * geometry[:third]) / 2
    nudged = geometry[: third // 2]
    geometry[: third // 2] = np.nextafter(nudged, rng.choice([-100, 100], nudged.shape))
    geometry[third, :2] = -1e-10
    geometry[third, 2:] = 10.5
    geometry[third + 1] = (500, 3, 9, 9)
    geometry[:, 2] = np.where(geometry[:, 2] == 0, 1, geometry[:, 2])
    return geometry


def near_pixels(seed: int) -> tuple[int, int]:
    """Compare 25 windows, and return the number of pixels near the threshold and of all pixels."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 48, 2))
    logits = rng.standard_normal((25, SIDE, SIDE)).astype(np.float32)
    logits[::2] = np.cumsum(np.cumsum(logits[::2], 1), 2) - 2
    geometry = random_windows(rng, 25)
    masks, areas, boxes = paste(logits, geometry, height, width)
    near = 0
    for k in range(25):
        expected, values = reference.paste(
            logits[k], geometry[k].tolist(), THRESHOLD, height, width
        )
        clear = np.abs(values - THRESHOLD) > NEAR * np.abs(logits[k]).max()
        np.testing.assert_array_equal(masks[k][clear], expected[clear], err_msg=str(geometry[k]))
        assert areas[k] == masks[k].sum()
        assert tuple(boxes[k]) == reference.tight_box(masks[k])
        near += int((~clear).sum())
    return near, masks.size


def check_windows(seeds: range) -> None:
    near, pixels = np.sum([near_pixels(seed) for seed in seeds], axis=0)
    assert near <= 1e-4 * pixels


def test_windows_become_the_bits_of_the_reference() -> None:
    check_windows(range(12))


@pytest.mark.slow
def test_ten_thousand_windows_become_the_bits_of_the_reference() -> None:
    check_windows(range(400))


@pytest.mark.parametrize(
    "row",
    [
        (0, 0, 0, 9),
        (np.nan, 0, 9, 9),
        (0, 0, np.inf, 9),
        (2.0**18 - 5, 0, 9, 9),
        (3e38, 0, 3e38, 9),
        (-np.inf, 0, 9, 9),
        (50, 0, 9, 9),
        (0, -20, 9, 9),
        (-9, 0, 9, 9),
    ],
)
def test_padding_and_windows_outside_have_empty_masks(row: tuple[float, ...]) -> None:
    geometry = np.array([row, (1, 2, 3, 4)], np.float32)
    masks, areas, boxes = paste(np.ones((2, SIDE, SIDE), np.float32), geometry, 20, 30)
    assert areas.tolist() == [0, 12]
    assert boxes.tolist() == [[0, 0, 0, 0], [1, 2, 4, 6]]
    assert not masks[0].any()


def test_no_windows_give_no_rows() -> None:
    nothing = np.zeros((0, SIDE, SIDE), np.float32), np.zeros((0, 4), np.float32)
    masks, areas, boxes = paste(*nothing, 20, 33)
    assert (masks.shape, areas.shape, boxes.shape) == ((0, 20, 33), (0,), (0, 4))


def test_the_sign_bit_of_a_word_is_a_pixel() -> None:
    geometry = np.array([(31, 0, 1, 1), (0, 0, 32, 1)], np.float32)
    inputs = {"logits": np.ones((2, SIDE, SIDE), np.float32), "geometry": geometry}
    model = session(paste_model().SerializeToString())
    (bits,) = model.run(["bits"], {**inputs, "size": np.array([1, 32])})
    assert bits.ravel().tolist() == [-(2**31), -1]


def test_the_threshold_is_strict() -> None:
    logits = np.full((1, SIDE, SIDE), THRESHOLD, np.float32)
    _, areas, _ = paste(logits, np.array([(0, 0, 30, 30)], np.float32), 30, 30)
    assert areas.tolist() == [0]


def test_pytorch_and_the_body_give_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((40, SIDE, SIDE)).astype(np.float32)
    arrays = (logits, random_windows(rng, 40), np.array([37, 70]))
    expected = PasteWindows(THRESHOLD)(*map(torch.from_numpy, arrays))
    names = ("logits", "geometry", "size")
    found = session(paste_model().SerializeToString()).run(
        None, dict(zip(names, arrays, strict=True))
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_the_operator_of_pytorch_keeps_its_contract() -> None:
    logits = torch.randn(3, SIDE, SIDE)
    geometry = torch.tensor([[-3.0, 2, 20, 30], [5, 5, 4, 4], [0, 0, 0, 0]])
    torch.library.opcheck(_paste_windows, (logits, geometry, torch.tensor([31, 45]), THRESHOLD))


def test_the_stage_is_one_node_of_our_domain_with_a_body_without_loops() -> None:
    model = paste_model()
    (node,) = model.graph.node
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert (node.domain, node.op_type) == (DOMAIN, "BilinearUpsample2d")
    assert list(node.input) == ["logits", "geometry", "size", "size"]
    assert attributes == {
        "mode": b"windows",
        "threshold": THRESHOLD,
        "plugin_namespace": b"foveate",
        "plugin_version": b"1",
        "tensorrt_plugin_shape_input_indices": [3],
    }
    (function,) = model.functions
    assert {one.domain for one in function.node} == {""}
    assert not {one.op_type for one in function.node} & {"Loop", "Scan", "If", "BitwiseAnd"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    cascade = build_cascade(CascadeInfo(proposals="deepmask-mini", mask_threshold=-0.25))
    options = ExportOptions(name="deepmask", with_paste=True)
    return export_bundle(cascade, tmp_path_factory.mktemp("paste") / "bundle", options)


def test_deepmask_alone_exports_to_a_bundle_that_only_proposes(bundle: Bundle) -> None:
    assert set(bundle.manifest.stages) == {"propose", "refine", "paste"}
    assert bundle.manifest.mask.size == 40
    assert not bundle.manifest.classifies


def test_a_bundle_may_have_the_stage_and_the_runtime_leaves_it_alone(bundle: Bundle) -> None:
    spec = bundle.manifest.stages["paste"]
    assert [one.shape for one in spec.inputs] == [("windows", 40, 40), ("windows", 4), (2,)]
    bits, areas, boxes = spec.outputs
    assert (bits.dtype, bits.shape) == ("int32", ("windows", "image_height", "image_words"))
    assert (areas.shape, boxes.shape) == (("windows",), ("windows", 4))
    assert list(bundle.manifest.networks) == ["propose", "refine"]
    with load(bundle.root) as pipeline:
        assert set(pipeline.engines) == {"propose", "refine"}
    report = inspect_bundle(bundle)
    check_report(report)
    assert report.stages[2].dispatch == {"foveate::BilinearUpsample2d": {"body": 1}}


@needs_rtx
def test_the_stage_builds_with_the_range_of_its_size(bundle: Bundle, tmp_path: Path) -> None:
    options = CompileOptions(target="tensorrt-rtx", archs=ARCHS[1:], stages=("paste",))
    cache = EngineCache(tmp_path / "cache")
    (outcome,) = compile_bundle(bundle, options, cache, output=tmp_path / "engines")
    (profile,) = outcome.record.key.profiles
    assert profile["size"] == ShapeRange(minimum=(1, 1), optimum=(768, 1024), maximum=(1024, 1024))
    assert outcome.record.dispatch == {"BilinearUpsample2d": "body"}


def test_a_fixed_image_fixes_the_size(bundle: Bundle) -> None:
    options = CompileOptions(target="tensorrt-rtx", stages=("paste",), image_sizes=((640, 480),))
    (engine,) = engine_specs(bundle.manifest, options)
    assert engine.name == "paste-640x480-k100"
    assert engine.profiles[0]["size"].minimum == engine.profiles[0]["size"].maximum == (480, 640)


# --- maps ------------------------------------------------------------------------------------


@cache
def map_model(scale: int) -> bytes:
    node = helper.make_node(
        "BilinearUpsample2d", ["x"], ["y"], domain=DOMAIN, scale=scale, mode="half_pixel"
    )
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("nchw")) for name in "xy"]
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    functions = [bilinear_upsample_body()]
    model = helper.make_model(graph, opset_imports=versions, functions=functions, ir_version=10)
    return bytes(model.SerializeToString())


def check_maps(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape, scale = rng.integers([0, 1, 1, 1], [3, 4, 12, 12]), int(rng.integers(1, 5))
        x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
        (found,) = session(map_model(scale)).run(None, {"x": x})
        expected = upsample(x, scale * x.shape[2], scale * x.shape[3], align_corners=False)
        assert found.shape == expected.shape
        error = np.abs(found - expected).max(initial=0)
        assert error <= 2e-5 * np.abs(x).max(initial=0), (seed, shape, scale)


def test_maps_are_upsampled_as_the_reference_says() -> None:
    check_maps(range(300))


@pytest.mark.slow
def test_ten_thousand_maps_are_upsampled_as_the_reference_says() -> None:
    check_maps(range(10_000))
