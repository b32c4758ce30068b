# SPDX-License-Identifier: Apache-2.0
"""Verification of the stage ``paste``, and the reasons why compiled engines are not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.samples.compiling import KEY, key_with, record_of, write_engine
from tests.samples.images import write_small_cat
from tests.samples.verified_bundles import small_bundle, stage_files, with_change

from foveate.arrays import Array
from foveate.bundle import Bundle, write_bundle
from foveate.cli import invoke
from foveate.errors import MissingExtraError
from foveate.export.bundle_export import _stage_spec
from foveate.export.checks import bundle_report
from foveate.export.checks.matching import PasteComparison, compare_pasting
from foveate.export.execution.sessions import session_function
from foveate.export.execution.stages import paste_stage
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.results.window_masks import WindowMasks, of_windows
from foveate.runtime import load
from foveate.system.gpu import Gpu
from foveate.system.tensorrt import TARGETS, Installed


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("paste")
    plain = small_bundle(folder / "plain")
    mask = plain.manifest.mask
    stage = paste_stage(mask.size, mask.threshold)
    model = export_stage(stage)
    stages = {**plain.manifest.stages, "paste": _stage_spec(stage, model)}
    files = {**stage_files(plain), "paste.onnx": model.SerializeToString()}
    return write_bundle(folder / "pasting", replace(plain.manifest, stages=stages), files)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_cat(tmp_path_factory.mktemp("images") / "cat.png")


@pytest.fixture(scope="module")
def masks(bundle: Bundle, image: Path) -> WindowMasks:
    with load(bundle.root) as pipeline:
        return of_windows(pipeline.propose(image).masks)


def parity(
    bundle: Bundle, masks: WindowMasks, *changes: Callable[[onnx.ModelProto], None]
) -> PasteComparison:
    model = onnx.load(bundle.stage_path("paste"))
    for change in changes:
        change(model)
    return compare_pasting(session_function(model), masks, bundle.manifest.mask.threshold)


def in_the_body(output: str, old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    """Make a node of the function read another value."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = [one for one in model.functions[0].node if output in one.output]
        names = [new if name == old else name for name in node.input]
        assert names != list(node.input)
        node.input[:] = names

    return change


def plus(name: str, amount: float, *, output: bool) -> Callable[[onnx.ModelProto], None]:
    """Add a number to an input or an output of the stage."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = model.graph.node
        values = node.output if output else node.input
        kind = np.int32 if name in ("bits", "areas") else np.float32
        model.graph.initializer.append(numpy_helper.from_array(np.array(amount, kind), "amount"))
        values[list(values).index(name)] = "changed"
        ends = ["changed", name] if output else [name, "changed"]
        add = helper.make_node("Add", [ends[0], "amount"], [ends[1]])
        model.graph.node.insert(1 if output else 0, add)

    return change


def test_pasted_bits_are_those_of_the_runtime(bundle: Bundle, masks: WindowMasks) -> None:
    found = parity(bundle, masks)
    assert found.windows == len(masks) + 1 > 4
    assert found.pixels >= masks.areas().sum() > 0
    assert found.differing <= 1e-4 * found.pixels
    assert (found.beyond, found.areas, found.boxes, found.misshapen) == (0, 0, 0, 0)
    assert found.fault() is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        # The center of a pixel lies half a pixel after its edge.
        (in_the_body("y_center", "one", "zero"), "pixels are on the other side of the threshold"),
        (in_the_body("x_center", "one", "zero"), "pixels are on the other side of the threshold"),
        (plus("geometry", 0.5, output=False), "pixels are on the other side of the threshold"),
        (plus("logits", 0.1, output=False), "pixels are on the other side of the threshold"),
        # A width of 0 marks padding.
        (in_the_body("padding", "nothing", "whole"), "1 of "),
        (plus("areas", 1, output=True), "the areas of "),
        (plus("boxes", 0.5, output=True), "the boxes of "),
    ],
)
def test_a_planted_fault_is_seen(
    change: Callable[[onnx.ModelProto], None], text: str, bundle: Bundle, masks: WindowMasks
) -> None:
    assert text in str(parity(bundle, masks, change).fault())


def test_bits_after_the_last_column_are_a_fault(bundle: Bundle, masks: WindowMasks) -> None:
    stage, threshold = session_function(bundle.stage_path("paste")), bundle.manifest.mask.threshold
    logits, geometry = masks.windows()
    rows = np.arange(len(logits))
    cut = WindowMasks(logits, geometry, rows, threshold=threshold, height=72, width=90)
    assert compare_pasting(stage, cut, threshold).fault() is None

    def stray(inputs: dict[str, Array]) -> dict[str, Array]:
        found = dict(stage(inputs))
        found["bits"] = found["bits"].copy()
        found["bits"][0, 0, 2] |= np.int32(1 << 28)
        return found

    def short(inputs: dict[str, Array]) -> dict[str, Array]:
        found = dict(stage(inputs))
        return {**found, "bits": found["bits"][:, :, :2]}

    assert compare_pasting(stray, cut, threshold).beyond == 1
    text = str(compare_pasting(short, cut, threshold).fault())
    assert text == f"the bits of {len(rows) + 1} of {len(rows) + 1} windows have another shape"


@pytest.mark.parametrize("more", [[], ["--bisect"]])
def test_the_command_refuses_a_stage_that_pastes_half_a_pixel_aside(
    more: list[str], bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image", str(image), "--reference", str(bundle.root), *more]
    assert invoke(["verify", str(bundle.root), *words]) == 0
    if not more:
        assert "windows of " in capsys.readouterr().out
    shifted = in_the_body("x_center", "one", "zero")
    broken = with_change(bundle, tmp_path / "broken", "paste", shifted)
    assert invoke(["verify", str(broken.root), *words]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("foveate: the stage 'paste' differs from the runtime's own masks: ")
    assert line.endswith(
        f"on {image}: export it again: foveate export CHECKPOINT --output BUNDLE --with-paste"
    )


def place_engine(bundle: Bundle, **changes: str | None) -> Path:
    key = key_with(onnx=bundle.manifest.files["refine.onnx"].sha256, **changes)
    folder = bundle.root / "engines" / key.target
    folder.mkdir(parents=True)
    return write_engine(folder, key)


NO_GPU = "there is no NVIDIA driver, and the engine needs a GPU of sm_86 or sm_89"
AGAIN = "run: foveate compile BUNDLE --target tensorrt-rtx"
BUILT = "the engine 'refine' was compiled for"
MISSING = "the module 'tensorrt_rtx' is not installed: run: pip install 'foveate[rtx]'"


@pytest.mark.parametrize(
    ("gpu", "version", "cuda", "text"),
    [
        (None, "1.7.1.116", "13", NO_GPU),
        (None, "1.6.0", "13", f"{NO_GPU}; and {BUILT} TensorRT 1.7.1.116, found 1.6.0: {AGAIN}"),
        (None, "", "", f"{NO_GPU}; and {MISSING}"),
        ("sm_89", "", "", MISSING),
        ("sm_89", "1.7.1.116", "12", f"{BUILT} CUDA 13, found 12: {AGAIN}"),
        ("sm_120", "1.7.1.116", "13", f"{BUILT} the GPU sm_86 or sm_89, found sm_120: {AGAIN}"),
        ("sm_89", "1.7.1.116", "13", ""),
    ],
)
def test_the_nearest_reason_why_an_engine_is_not_run_is_told(
    gpu: str | None, version: str, cuda: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Installed:
        if not version:
            raise MissingExtraError("tensorrt_rtx", "rtx")
        return Installed(target=TARGETS[name], version=version, cuda=cuda)

    here = None if gpu is None else Gpu(name="A GPU", arch=gpu, driver="13.0")
    monkeypatch.setattr(bundle_report, "current_gpu", lambda: here)
    monkeypatch.setattr(bundle_report, "find_runtime", find)
    assert bundle_report.obstacle(record_of(KEY, b"a plan")) == text


def test_the_command_says_which_engines_were_not_run_and_why(
    bundle: Bundle,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bundle_report, "obstacle", lambda _record: "a reason")
    own = with_change(bundle, tmp_path / "own", "refine", lambda _model: None)
    name = place_engine(own).relative_to(own.root).as_posix()
    words = ["verify", str(own.root), "--image", str(image), "--reference", str(bundle.root)]
    assert invoke(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name} was not run: a reason"
    assert lines[-1].endswith("on 1 image; 1 engine was not run")
    assert json.loads((tmp_path / "own-verify.json").read_text())["engines"] == {name: "a reason"}
    assert invoke(["inspect", str(own.root)]) == 0
    assert "note      not run here: a reason" in capsys.readouterr().out


def test_an_engine_of_other_plugin_sources_is_stale(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = with_change(bundle, tmp_path / "own", "refine", lambda _model: None)
    plan = place_engine(own, plugins="0" * 64, target="tensorrt")
    record = plan.with_suffix(".json")
    record.write_text(record.read_text().replace('"body"', '"plugin"'))
    assert invoke(["verify", str(own.root), "--reference", str(own.root)]) == 1
    error = capsys.readouterr().err
    assert "was compiled from other plugin sources, expected " in error
    assert error.endswith(
        ", found 000000000000...: run: foveate compile BUNDLE --target tensorrt\n"
    )
