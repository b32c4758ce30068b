# SPDX-License-Identifier: Apache-2.0
"""Which compiled plan runs a stage, and why others do not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.samples.plans import ARCHITECTURE, TENSORRT, write_library, write_plans
from tests.samples.verified_bundles import small_bundle

from foveate.bundle import Bundle
from foveate.errors import BackendError
from foveate.export.engines import CompileOptions
from foveate.export.engines.shapes import engine_specs
from foveate.kernels.plugins.library import library_path
from foveate.runtime.engines.catalogue import Shapes, StagePlans, find_plans
from foveate.runtime.engines.engine import NoPlanError
from foveate.runtime.sizes import Sizes
from foveate.system.tensorrt import Installed


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    return small_bundle(tmp_path / "small")


def find(
    bundle: Bundle, installed: Installed = TENSORRT, architecture: str = ARCHITECTURE
) -> dict[str, StagePlans]:
    return find_plans(bundle, installed, architecture)


def reason(bundle: Bundle, stage: str = "refine", installed: Installed = TENSORRT) -> str:
    """Return the reason why the only plan of a stage does not run."""
    with pytest.raises(NoPlanError) as caught:
        find(bundle, installed)
    match = re.fullmatch(
        f"no compiled plan of the stage '{stage}' runs on this machine \\((.*)\\)",
        caught.value.what,
    )
    assert match is not None, caught.value.what
    return match[1]


def image(*sides: int) -> Shapes:
    return {"image": (1, 3, *sides)}


# --- plans that fit --------------------------------------------------------------------------


def test_the_narrowest_plan_is_taken(bundle: Bundle) -> None:
    write_plans(bundle)
    write_plans(bundle, image_sizes=((96, 64), (64, 64)))
    plans = find(bundle)["propose"]
    sizes = Sizes.of(64, 96, bundle.manifest)
    for number, level in enumerate(sizes.levels):
        shapes = image(level.canvas_height, level.canvas_width)
        plan, profile = plans.find(shapes)
        assert (plan.metadata.name, profile) == ("propose-96x64", number)
    plan, profile = plans.find(image(256, 256))  # of no image that has plans of its own
    assert (plan.metadata.name, profile) == ("propose", 0)


def test_the_narrowest_plan_is_taken_wherever_its_file_stands(bundle: Bundle) -> None:
    write_plans(bundle)
    (narrow,) = write_plans(bundle, image_sizes=((96, 64),), stages=("propose",))
    for file in (narrow, narrow.with_suffix(".json")):
        file.rename(file.with_stem("z"))
    plans = find(bundle)["propose"]
    assert [plan.path.stem for plan in plans.plans] == ["propose", "z"]
    assert plans.find(image(224, 256))[0].path.stem == "z"


def test_among_plans_as_narrow_the_one_in_memory_is_taken(bundle: Bundle) -> None:
    write_plans(bundle, stages=("refine", "features", "classify"))
    paths = write_plans(bundle, image_sizes=((96, 64),), stages=("propose",))
    other = paths[0].with_stem("propose-other")
    other.write_bytes(paths[0].read_bytes())
    other.with_suffix(".json").write_bytes(paths[0].with_suffix(".json").read_bytes())
    plans = find(bundle)["propose"]
    for loaded in (paths[0], other):
        assert plans.find(image(224, 256), [loaded])[0].path == loaded


def test_each_bucket_has_its_plan(bundle: Bundle) -> None:
    write_plans(bundle)
    write_plans(bundle, stages=("refine",), buckets=(4, 8))
    plans, spec = find(bundle)["refine"], bundle.manifest.stages["refine"]
    for rows, name in ((4, "refine-k4"), (5, "refine"), (8, "refine-k8")):
        shapes = {one.name: (rows, *map(int, one.shape[1:])) for one in spec.inputs}
        assert plans.find(shapes)[0].metadata.name == name


def test_rows_are_padded_only_as_far_as_a_plan_needs(bundle: Bundle) -> None:
    write_plans(bundle, stages=("propose", "features", "classify"))
    write_plans(bundle, stages=("refine",), buckets=(4, 8))
    plans, spec = find(bundle)["refine"], bundle.manifest.stages["refine"]
    varying = next(one.name for one in spec.inputs if not isinstance(one.shape[0], int))
    for rows, padded in ((1, 4), (4, 4), (5, 8), (8, 8), (9, 9)):
        assert plans.rows_for(varying, rows) == padded
    write_plans(bundle, stages=("refine",))  # takes any number up to its largest
    assert [find(bundle)["refine"].rows_for(varying, rows) for rows in (3, 4, 5)] == [3, 4, 5]


def test_plans_of_other_targets_and_stages_are_no_reasons(bundle: Bundle) -> None:
    paths = write_plans(bundle)
    folder = bundle.root / "engines"
    (folder / "tensorrt-rtx").mkdir()
    for end in (".plan", ".json"):
        content = paths[0].with_suffix(end).read_bytes()
        (folder / "tensorrt-rtx" / f"propose{end}").write_bytes(content)
    record = json.loads(paths[0].with_suffix(".json").read_text())
    record["key"]["stage"] = "paste"
    (folder / "tensorrt" / "paste.plan").write_bytes(paths[0].read_bytes())
    (folder / "tensorrt" / "paste.json").write_text(json.dumps(record))
    found = find(bundle)
    assert [len(one.plans) for one in found.values()] == [1, 1, 1, 1]
    assert [one.refusals for one in found.values()] == [[], [], [], []]


def test_the_profiles_are_those_of_the_inputs_of_the_files() -> None:
    mini = Bundle.open("mini")
    options = CompileOptions(target="tensorrt", image_sizes=((640, 480),), buckets=(100,))
    for spec in engine_specs(mini.manifest, options):
        inputs = onnx.load(mini.stage_path(spec.stage)).graph.input
        for profile in spec.profiles:
            assert list(profile) == [value.name for value in inputs]
            for value in inputs:
                lengths = value.type.tensor_type.shape.dim
                fixed = [
                    one.dim_value or side
                    for one, side in zip(lengths, profile[value.name].optimum, strict=True)
                ]
                assert profile[value.name].contains(tuple(fixed))


# --- shapes without a plan -------------------------------------------------------------------


def test_a_size_without_a_plan_lists_all_plans_the_nearest_first(bundle: Bundle) -> None:
    write_plans(bundle, image_sizes=((32, 96), (96, 64)))
    path = write_plans(bundle, stages=("propose",), archs=("sm_90",))[0]
    with pytest.raises(NoPlanError) as caught:
        find(bundle)["propose"].find(image(272, 256))
    assert caught.value.what == (
        "no compiled plan of the stage 'propose' takes image 1x3x272x256 "
        "(the engine 'propose-96x64' takes image 1x3x224x256; "
        "the engine 'propose-32x96' takes image 1x3x256x192; "
        "the engine 'propose' was compiled for the GPU sm_90, found sm_75)"
    )
    assert caught.value.file == str(path.parent)
    assert caught.value.remedy == f"run: foveate compile {bundle.root} --target tensorrt"


@pytest.mark.parametrize(
    ("size", "max_side", "options"),
    [
        ((64, 96), 96, "--image-size 96x64 --bucket 8"),
        ((640, 960), 96, "--image-size 96x64 --bucket 8"),  # the working image
        ((100, 120), 120, "--image-size 120x100 --max-side 120 --bucket 8"),
    ],
)
def test_the_command_compiles_plans_for_the_image(
    size: tuple[int, int], max_side: int, options: str, bundle: Bundle
) -> None:
    write_plans(bundle, image_sizes=((32, 96),))
    manifest = bundle.manifest
    pyramid = replace(manifest.pyramid, max_side=max_side)
    sizes = Sizes.of(*size, replace(manifest, pyramid=pyramid))
    shapes = [image(one.canvas_height, one.canvas_width) for one in sizes.levels]
    with pytest.raises(NoPlanError) as caught:
        find(bundle)["propose"].find(shapes[0])
    error = caught.value.for_image(sizes, 8)
    command = f"run: foveate compile {bundle.root} --target tensorrt {options}"
    assert (error.what, error.remedy) == (caught.value.what, command)

    width, height = map(int, options.split()[1].split("x"))
    compiled = CompileOptions(
        target="tensorrt", image_sizes=((width, height),), max_side=max_side, buckets=(8,)
    )
    propose, *_ = engine_specs(manifest, compiled)
    assert [one["image"].optimum for one in propose.profiles] == [one["image"] for one in shapes]


# --- plans that do not run -------------------------------------------------------------------


def test_a_bundle_without_engines_is_refused_with_the_command(bundle: Bundle) -> None:
    with pytest.raises(BackendError) as caught:
        find(bundle)
    assert str(caught.value) == (
        "no compiled plan of the stage 'propose' runs on this machine (there is none): "
        f"{bundle.root}/engines/tensorrt: run: foveate compile {bundle.root} --target tensorrt"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"archs": ("sm_89", "sm_90")}, "was compiled for the GPU sm_89 or sm_90, found sm_75"),
        ({"tensorrt": "10.13.3"}, "was compiled for TensorRT 10.13.3, found 11.4.0"),
        ({"cuda": "12"}, "was compiled for CUDA 12, found 13"),
        (
            {"onnx": "1" * 64},
            "was compiled from another ONNX file, expected {onnx}..., found 111111111111...",
        ),
        ({"options": {"strip_weights": True}}, "has no weights (--strip-weights)"),
        ({"profiles": ()}, "has other inputs than its stage"),
    ],
)
def test_a_plan_for_something_else_is_refused(
    changes: dict[str, Any], text: str, bundle: Bundle
) -> None:
    write_plans(bundle, stages=("propose", "features", "classify"))
    write_plans(bundle, stages=("refine",), **changes)
    onnx_digest = bundle.manifest.files["refine.onnx"].sha256[:12]
    assert reason(bundle) == f"the engine 'refine' {text.format(onnx=onnx_digest)}"


def test_lean_tensorrt_runs_plans_that_are_compiled_for_it(bundle: Bundle) -> None:
    target = replace(TENSORRT.target, module="tensorrt_lean")
    lean = replace(TENSORRT, target=target, version="11.4.1")
    options = {"version_compatible": True}
    write_plans(bundle, stages=("propose", "features", "classify"), options=options)
    write_plans(bundle, stages=("refine",), tensorrt="11.4.1")
    expected = "the engine 'refine' is not version-compatible, which lean TensorRT requires"
    assert reason(bundle, installed=lean) == expected
    write_plans(bundle, stages=("refine",), options=options)
    assert len(find(bundle, lean)["refine"].plans) == 1


def test_a_plan_needs_the_plugin_library_in_the_cache(bundle: Bundle) -> None:
    write_plans(bundle, with_plugins=True)
    sources = write_library().parent.parent.name
    assert len(find(bundle)["classify"].plans) == 1
    library = library_path(sources, ARCHITECTURE)
    library.unlink()
    missing = f"there is no plugin library: {library}: run: foveate kernels build"
    assert reason(bundle) == missing


def test_a_plan_of_other_plugin_sources_is_refused(bundle: Bundle) -> None:
    write_plans(bundle, stages=("propose", "features", "classify"))
    write_plans(bundle, stages=("refine",), plugins="2" * 64)
    assert reason(bundle).startswith(
        "the engine 'refine' was compiled from other plugin sources, expected "
    )


def test_a_plugin_that_was_replaced_by_its_body_is_refused(bundle: Bundle) -> None:
    (path,) = write_plans(bundle, stages=("refine",), with_plugins=True)
    write_plans(bundle, stages=("propose", "features", "classify"))
    write_library()
    record = path.with_suffix(".json")
    record.write_text(record.read_text().replace('"plugin"', '"body"'))
    expected = "the engine 'refine' runs BilinearUpsample2d by its body, expected its plugin"
    assert reason(bundle) == expected


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(b"another plan"), "refine: a plan has changed (SHA-256 "),
        (lambda path: path.with_suffix(".json").unlink(), "refine: an engine is incomplete (No s"),
        (
            lambda path: path.with_suffix(".json").write_text("{}"),
            "refine: the metadata of an engine are invalid: schema None found, 1 expected",
        ),
        (lambda path: path.chmod(0o666), "is not loaded, because other users could change it"),
    ],
)
def test_a_plan_that_cannot_be_trusted_is_refused(
    damage: Callable[[Path], object], text: str, bundle: Bundle
) -> None:
    write_plans(bundle, stages=("propose", "features", "classify"))
    damage(write_plans(bundle, stages=("refine",))[0])
    assert text in reason(bundle)
