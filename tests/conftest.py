# SPDX-License-Identifier: Apache-2.0
"""A small bundle of real ONNX files with fixed weights, whose results can be worked out by hand.

It scores a window by how much brighter its middle is than its rim, outlines what is bright, and
names objects by their color. ``runtime/test_pipeline_oracle.py`` says the same in plain numpy.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys

# Before NumPy and PyTorch are loaded, here and in the processes that tests start: threads that
# share the cores with those of other workers spend most of their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from onnx import ModelProto, TensorProto, helper, numpy_helper

from foveate.bundle import (
    ClassifySpec,
    FeaturesSpec,
    Manifest,
    MaskSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
    write_bundle,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The same examples in every run, however long they take on a busy machine.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

CLASSES = ("red", "green", "blue")
Shape = tuple[int | str, ...]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import the tests without looking for garbage: hardly anything that they make is any."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _older_objects_are_left_alone() -> None:
    """Garbage is looked for among the objects of a module, without those of all modules before.

    PyTorch, its exporter and the tests leave millions of them in a process: seconds each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _find_tests_in_spawned_processes() -> None:
    # A spawned worker imports by name what it is handed; pytest leaves the tests on no path.
    sys.path.append(str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True, scope="session")
def _heed_interrupts() -> None:
    # A shell lets its jobs in the background ignore Ctrl-C, and so would the commands they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; one for all tests, since Playwright cannot run twice in a process."""
    library = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    # Containers allow no sandbox, and the pages are our own. The camera shows a moving test image.
    media = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with library.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *media])


def model_of(
    nodes: list[Any], inputs: dict[str, Shape], outputs: dict[str, Shape], **weights: np.ndarray
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "stage",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def spec_of(name: str, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> StageSpec:
    strides = {f"horizontal_{i}": 32 >> i for i in (1, 2, 3, 4)} | {
        f"map_{s}": s for s in (8, 16, 32)
    }
    return StageSpec(
        file=f"{name}.onnx",
        inputs=tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in inputs.items()),
        outputs=tuple(
            TensorSpec(name=n, dtype="float32", shape=s, stride=strides.get(n))
            for n, s in outputs.items()
        ),
    )


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def pool(source: str, target: str, size: int) -> Any:
    return node("AveragePool", source, target, kernel_shape=[size] * 2, strides=[size] * 2)


def score_kernel() -> np.ndarray:
    """Middle minus rim, on cells of 8 px: 20 x 20 cells a window, the middle is 10 x 10.

    It is tilted a little, so that no two windows have the same score.
    """
    kernel = np.full((20, 20), -1 / 300, np.float32)
    kernel[5:15, 5:15] = 1 / 100
    rows, columns = np.mgrid[:20, :20]
    return np.asarray(kernel * (1 + 0.004 * rows + 0.0017 * columns), np.float32)


def propose_stage(shared: tuple[int, ...] = ()) -> tuple[ModelProto, StageSpec]:
    image: dict[str, Shape] = {"image": (1, 3, "height", "width")}
    outputs: dict[str, Shape] = {
        "scores": (1, 1, "rows", "columns"),
        "vectors": (1, 3, "rows", "columns"),
        **{f"horizontal_{i}": (1, 1, f"h{i}", f"w{i}") for i in (1, 2, 3, 4)},
        **{f"map_{s}": (1, 3, f"h_{s}", f"w_{s}") for s in shared},
    }
    color_kernel = np.zeros((3, 3, 20, 20), np.float32)
    for channel in range(3):
        color_kernel[channel, channel, 5:15, 5:15] = 1 / 100
    nodes = [
        node("Conv", "image to_light offset", "light"),
        pool("light", "cells", 8),
        node("Conv", "cells score_kernel", "scores", strides=[2, 2]),
        pool("image", "colors", 8),
        node("Conv", "colors color_kernel", "vectors", strides=[2, 2]),
        *[pool("light", f"horizontal_{i}", 32 >> i) for i in (1, 2, 3, 4)],
        *[pool("image", f"map_{s}", s) for s in shared],
    ]
    model = model_of(
        nodes,
        image,
        outputs,
        # Black is -1, a pure color is 1.
        to_light=np.ones((1, 3, 1, 1), np.float32),
        offset=np.array([2 * 127 / 128], np.float32),
        score_kernel=score_kernel()[None, None],
        color_kernel=color_kernel,
    )
    return model, spec_of("propose", image, outputs)


def refine_stage() -> tuple[ModelProto, StageSpec]:
    sides = {1: 10, 2: 20, 3: 40, 4: 80}
    inputs: dict[str, Shape] = {
        "vectors": ("windows", 3),
        **{f"horizontal_{i}": ("windows", 1, n, n) for i, n in sides.items()},
    }
    outputs: dict[str, Shape] = {"logits": ("windows", 160, 160)}
    nodes = [
        *[
            node(
                "Resize",
                f"horizontal_{i} none scale_{i}",
                f"wide_{i}",
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
            for i in sides
        ],
        node("Sum", "wide_1 wide_2 wide_3 wide_4", "sum"),
        node("ReduceMean", "vectors last", "mean", keepdims=1),
        node("Unsqueeze", "mean axes", "level"),
        node("Add", "sum level", "shifted"),
        node("Squeeze", "shifted channel", "logits"),
    ]
    weights = {
        f"scale_{i}": np.array([1, 1, 160 / n, 160 / n], np.float32) for i, n in sides.items()
    }
    model = model_of(
        nodes,
        inputs,
        outputs,
        none=np.empty(0, np.float32),
        last=np.array([1]),
        axes=np.array([2, 3]),
        channel=np.array([1]),
        **weights,
    )
    return model, spec_of("refine", inputs, outputs)


def features_stage() -> tuple[ModelProto, StageSpec]:
    inputs: dict[str, Shape] = {"image": (1, 3, "height", "width")}
    outputs: dict[str, Shape] = {f"map_{s}": (1, 3, f"h{s}", f"w{s}") for s in (8, 16, 32)}
    model = model_of([pool("image", f"map_{s}", s) for s in (8, 16, 32)], inputs, outputs)
    return model, spec_of("features", inputs, outputs)


def shared_features_stage() -> tuple[ModelProto, StageSpec]:
    inputs: dict[str, Shape] = {"map_16": (1, 3, "h16", "w16")}
    outputs: dict[str, Shape] = {"map_32": (1, 3, "h32", "w32")}
    return model_of([pool("map_16", "map_32", 2)], inputs, outputs), spec_of(
        "features", inputs, outputs
    )


def classify_stage() -> tuple[ModelProto, StageSpec]:
    inputs: dict[str, Shape] = {
        **{f"map_{s}": (1, 3, f"h{s}", f"w{s}") for s in (8, 16, 32)},
        "boxes": ("regions", 4),
    }
    outputs: dict[str, Shape] = {"probabilities": ("regions", 4), "deltas": ("regions", 4, 4)}
    nodes = [
        node("Pad", "boxes pads", "rois"),
        *[
            node("MaxRoiPool", f"map_{s} rois", f"pooled_{s}", pooled_shape=[1, 1],
                 spatial_scale=1 / s)
            for s in (8, 16, 32)
        ],
        node("Mean", "pooled_8 pooled_16 pooled_32", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Mul", "flat eight", "classes"),
        node("Pad", "classes pads", "logits"),
        node("Softmax", "logits", "probabilities", axis=1),
        node("Shape", "boxes", "count", start=0, end=1),
        node("Concat", "count four_four", "shape", axis=0),
        node("Expand", "all_deltas shape", "deltas"),
    ]  # fmt: skip
    deltas = np.zeros((1, 4, 4), np.float32)
    deltas[0, 2] = (0.1, -0.1, 0.2, -0.2)  # green boxes move and stretch
    model = model_of(
        nodes,
        inputs,
        outputs,
        pads=np.array([0, 1, 0, 0]),
        eight=np.array(8, np.float32),
        four_four=np.array([4, 4]),
        all_deltas=deltas,
    )
    return model, spec_of("classify", inputs, outputs)


def contrast_manifest(stages: dict[str, StageSpec]) -> Manifest:
    classifies = "classify" in stages
    return Manifest(
        name="contrast",
        class_names=CLASSES if classifies else (),
        preprocessing=PreprocessingSpec(mean=(127,) * 3, std=(128,) * 3, fill=0),
        pyramid=PyramidSpec(scales=(0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142), max_side=256),
        windows=WindowSpec(size=160, stride=16, padding=80),
        select=SelectSpec(top_k=20, window_nms_iou=0.618),
        mask=MaskSpec(size=160, threshold=0.137),
        stages=stages,
        features=FeaturesSpec(short_side=128, long_side=256) if classifies else None,
        classify=ClassifySpec(
            delta_mean=(0.0, 0.0, 0.0, 0.0),
            delta_std=(1.0, 1.0, 1.0, 1.0),
            class_nms_iou=0.3,
            max_detections=10,
            calibration=(0.0, 1.0, 0.0),
        )
        if classifies
        else None,
    )


def write_contrast_bundle(
    directory: Path, *, classifies: bool = True, shares: bool = False, **changes: Any
) -> Path:
    stages = {"propose": propose_stage((8, 16) if shares else ()), "refine": refine_stage()}
    if classifies:
        features = shared_features_stage() if shares else features_stage()
        stages |= {"features": features, "classify": classify_stage()}
    manifest = contrast_manifest({name: spec for name, (_, spec) in stages.items()})
    manifest = replace(manifest, **changes)
    files = {f"{name}.onnx": model.SerializeToString() for name, (model, _) in stages.items()}
    return write_bundle(directory, manifest, files).root


@pytest.fixture(scope="session")
def contrast_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a bundle that names bright things by their color."""
    return write_contrast_bundle(tmp_path_factory.mktemp("bundles") / "contrast")


@pytest.fixture(scope="session")
def sharing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same, with a classifier that reads maps of a level of the pyramid."""
    directory = tmp_path_factory.mktemp("bundles") / "sharing"
    return write_contrast_bundle(directory, shares=True)


@pytest.fixture(scope="session")
def proposing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same without the stages that name things."""
    directory = tmp_path_factory.mktemp("bundles") / "proposing"
    return write_contrast_bundle(directory, classifies=False)
