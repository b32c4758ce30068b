# SPDX-License-Identifier: Apache-2.0
"""Every stage becomes an engine of TensorRT for RTX, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tests.samples.compiling import ARCHS, build_fixed, needs_rtx, refine_options, request_for

from foveate.bundle import Bundle
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import BackendError, BundleError, OptionError
from foveate.export.engines import EngineCache, compile_bundle
from foveate.export.engines.process import run_build
from foveate.export.engines.shapes import engine_specs
from foveate.export.execution.stage_model import custom_ops
from foveate.export.execution.stages import proposal_stages
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models import SharpMask, build
from foveate.system.gpu import current_gpu

pytestmark = needs_rtx


def compile_refine(folder: Path, **options: object) -> EngineMetadata:
    outcomes = compile_bundle(
        Bundle.open("mini"),
        refine_options(**options),
        EngineCache(folder / "cache"),
        output=folder / "engines",
    )
    return next(iter(outcomes)).record


@pytest.mark.parametrize("stage", ["propose", "refine", "features", "classify"])
def test_a_stage_of_mini_builds_for_every_architecture(stage: str, tmp_path: Path) -> None:
    bundle = Bundle.open("mini")
    model = onnx.load(bundle.stage_path(stage))
    options = refine_options(stages=(stage,), archs=ARCHS, buckets=())
    cache = EngineCache(tmp_path / "cache")
    outcomes = compile_bundle(bundle, options, cache, output=tmp_path / "engines")
    (outcome,) = outcomes
    record = read_metadata(tmp_path / "engines" / f"{stage}.plan")
    assert record == outcome.record
    assert record.key.archs == ARCHS
    assert record.plan.size == outcome.plan.stat().st_size > 100_000
    assert record.dispatch == {op.name: "body" for op in custom_ops(model)}


@pytest.mark.slow
def test_the_full_size_proposal_networks_build_for_every_architecture(tmp_path: Path) -> None:
    """SharpMask's propose is DeepMask's with further outputs, so it is not exported again."""
    network = build("sharpmask-resnet50").eval()
    assert isinstance(network, SharpMask)
    stages = [*proposal_stages(network), proposal_stages(network.deepmask)[1]]
    lengths = {"height": 640, "width": 800, "windows": 64}
    for number, stage in enumerate(stages):
        file = tmp_path / f"{number}.onnx"
        onnx.save(export_stage(stage), file)
        assert build_fixed(file, stage.name, lengths, *ARCHS) > file.stat().st_size / 2


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    reported: list[tuple[str, int]] = []
    outcomes = compile_bundle(
        Bundle.open("mini"),
        refine_options(),
        EngineCache(tmp_path / "cache"),
        output=tmp_path,
        progress=lambda name, percent, *_: reported.append((name, percent)),
    )
    list(outcomes)
    shares = [percent for _, percent in reported]
    assert {name for name, _ in reported} == {"refine-k2"}
    assert shares == sorted(set(shares))
    assert shares[-1] == 100
    assert len(shares) > 10


def test_an_engine_of_several_fixed_images_has_a_profile_for_each_level() -> None:
    manifest = Bundle.open("mini").manifest
    options = refine_options(stages=("propose",), image_sizes=((640, 480),))
    (engine,) = engine_specs(manifest, options)
    assert engine.name == "propose-640x480"
    assert len(engine.profiles) == len(manifest.pyramid.scales)
    assert all(one["image"].minimum == one["image"].maximum for one in engine.profiles)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"workspace_mb": 1}, "allow it more memory: --workspace"),
        ({"refit": True}, "build on a machine with an NVIDIA driver"),
        ({"strip_weights": True}, "build on a machine with an NVIDIA driver"),
    ],
)
def test_a_failed_build_says_what_mends_it(
    options: dict[str, object], remedy: str, tmp_path: Path
) -> None:
    if current_gpu() is not None and "workspace_mb" not in options:
        pytest.skip("needs a machine without a GPU, whose driver would let this build succeed")
    with pytest.raises(
        BackendError, match="tensorrt-rtx cannot build the stage 'refine'"
    ) as caught:
        compile_refine(tmp_path, **options)
    assert caught.value.remedy == remedy
    assert not list(tmp_path.rglob("*.plan"))


def test_an_architecture_that_it_cannot_build_for_is_named_with_those_that_it_can(
    tmp_path: Path,
) -> None:
    with pytest.raises(OptionError) as caught:
        compile_refine(tmp_path, archs=("sm_90",))
    assert str(caught.value) == (
        "tensorrt-rtx cannot build for sm_90, expected one of sm_75, sm_80, sm_86, sm_89, sm_120, "
        "sm_121: on such a GPU itself: --target tensorrt"
    )


def test_an_operator_without_body_and_plugin_is_refused_before_the_parser_sees_it(
    tmp_path: Path,
) -> None:
    shape = (1, 1, 4, 4)
    node = onnx.helper.make_node(
        "RoiMaxPool2d",
        ["x"],
        ["y"],
        domain="foveate",
        plugin_namespace="foveate",
        plugin_version="1",
    )
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "stage", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("foveate", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "x.onnx")
    profile = {"x": {"minimum": shape, "optimum": shape, "maximum": shape}}
    request = request_for(tmp_path / "x.onnx", "classify", profile, "sm_89")
    with pytest.raises(
        BundleError, match="RoiMaxPool2d, version 1, namespace 'foveate' has no function body"
    ):
        run_build(request)
