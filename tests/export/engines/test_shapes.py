# SPDX-License-Identifier: Apache-2.0
"""Engines accept the shapes that the runtime uses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.test_sizes import OWN
from tests.samples.compiling import key_with, refine_options

from foveate.bundle import Bundle, FeaturesSpec
from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.manifest import Manifest, StageSpec, TensorSpec
from foveate.bundle.presets import PresetSpec, RelativeTime
from foveate.errors import OptionError
from foveate.export.engines import BuildRequest, CompileOptions
from foveate.export.engines.compiler import trtexec_command
from foveate.export.engines.shapes import engine_specs
from foveate.runtime.options import PipelineOptions
from foveate.runtime.sizes import Sizes

SIDES = st.integers(1, 6000)


@cache
def manifest() -> Manifest:
    return Bundle.open("mini").manifest


@given(height=SIDES, width=SIDES)
def test_every_image_fits_the_engines_for_all_sizes(height: int, width: int) -> None:
    mini = manifest()
    plan = Sizes.of(height, width, mini)
    options = refine_options(stages=("propose", "features", "classify"), buckets=())
    propose, features, classify = engine_specs(mini, options)
    seen = plan.features
    assert seen is not None
    for level in plan.levels:
        shape = (1, 3, level.canvas_height, level.canvas_width)
        assert propose.profiles[0]["image"].contains(shape)
    coarsest = (seen.canvas_height // 16, seen.canvas_width // 16)
    assert features.profiles[0]["map_16"].contains((1, 112, *coarsest))
    for stride in (8, 16, 32):
        one = classify.profiles[0][f"map_{stride}"]
        sides = (seen.canvas_height // stride, seen.canvas_width // stride)
        assert one.contains((1, one.minimum[1], *sides))


@given(height=SIDES, width=SIDES)
def test_the_engine_of_an_image_has_exactly_its_levels(height: int, width: int) -> None:
    mini = manifest()
    plan = Sizes.of(height, width, mini)
    options = refine_options(stages=("propose",), image_sizes=((width, height),))
    (engine,) = engine_specs(mini, options)
    shapes = {profile["image"].optimum for profile in engine.profiles}
    assert shapes == {(1, 3, one.canvas_height, one.canvas_width) for one in plan.levels}
    assert len(shapes) == len(engine.profiles)


@cache
def with_presets() -> Manifest:
    """Return the manifest of mini with two more presets, which change what its own do not."""
    time = RelativeTime(value=0.5, low=0.4, high=0.6)
    small = PresetSpec(relative_time=time, measured={}, max_side=512, top_k=30)
    large = PresetSpec(relative_time=time, measured={}, max_side=1200, top_k=150)
    mini = manifest()
    return replace(mini, presets={**mini.presets, "small": small, "large": large})


@given(
    height=SIDES,
    width=SIDES,
    preset=st.sampled_from((None, "accurate", "balanced", "fast", "small", "large")),
    fixed=st.booleans(),
)
def test_every_preset_fits_the_engines(
    height: int, width: int, preset: str | None, fixed: bool
) -> None:
    mini = with_presets()
    images = ((width, height),) if fixed else ()
    options = refine_options(stages=(), buckets=(), image_sizes=images, ranges={})
    accepted: dict[str, list[dict[str, ShapeRange]]] = {}
    for engine in engine_specs(mini, options):
        accepted.setdefault(engine.stage, []).extend(engine.profiles)
    applied = PipelineOptions(preset=preset).applied_to(mini)
    sizes = Sizes.of(height, width, applied)
    seen = sizes.features
    assert seen is not None
    for level in sizes.levels:
        shape = (1, 3, level.canvas_height, level.canvas_width)
        assert any(one["image"].contains(shape) for one in accepted["propose"])
    rows = min(applied.select.top_k, sizes.windows)
    maps = {s: (seen.canvas_height // s, seen.canvas_width // s) for s in (8, 16, 32)}
    assert any(one["map_16"].contains((1, 112, *maps[16])) for one in accepted["features"])
    assert any(one["vectors"].maximum[0] >= rows for one in accepted["refine"])
    assert any(
        one["boxes"].maximum[0] >= rows
        and all(one[f"map_{s}"].contains((1, one[f"map_{s}"].minimum[1], *maps[s])) for s in maps)
        for one in accepted["classify"]
    )


def test_a_level_that_only_a_preset_reads_is_a_profile_of_its_own() -> None:
    options = refine_options(stages=("features",), image_sizes=((1024, 768),))
    without = replace(manifest(), presets={})
    (alone,) = engine_specs(without, options)
    (engine,) = engine_specs(manifest(), options)
    assert engine.name == alone.name == "features-1024x768"
    assert engine.profiles[: len(alone.profiles)] == alone.profiles
    assert len(engine.profiles) == 2  # of 0.7071, and of 0.5 or 1.0, which fast has


def test_a_preset_that_no_pipeline_accepts_has_no_engines() -> None:
    fewer = replace(manifest().pyramid, scales=(0.5, 1.0))  # the presets name other levels
    some = replace(manifest(), pyramid=fewer)
    for images in ((), ((640, 480),)):
        options = refine_options(stages=("propose", "features"), image_sizes=images)
        assert engine_specs(some, options) == engine_specs(replace(some, presets={}), options)


def test_an_image_has_buckets_for_the_windows_of_every_preset() -> None:
    options = refine_options(buckets=(), image_sizes=((640, 480),))
    names = [engine.name for engine in engine_specs(with_presets(), options)]
    assert names == ["refine-k250", "refine-k100", "refine-k30", "refine-k150"]
    (given,) = engine_specs(with_presets(), refine_options(buckets=(40,)))
    assert given.name == "refine-k40"  # what the user asks for


def test_buckets_and_images_multiply_where_a_stage_has_both() -> None:
    options = refine_options(
        stages=(), image_sizes=((640, 480), (480, 640)), buckets=(64, 128), ranges={}
    )
    assert [engine.name for engine in engine_specs(manifest(), options)] == [
        "propose-640x480",
        "propose-480x640",
        "refine-k64",
        "refine-k128",
        "features-640x480",
        "features-480x640",
        "classify-640x480-k64",
        "classify-640x480-k128",
        "classify-480x640-k64",
        "classify-480x640-k128",
    ]


def test_an_image_with_fewer_windows_than_the_bucket_has_an_engine_for_all_of_them() -> None:
    options = refine_options(
        stages=("refine", "classify"), image_sizes=((16, 16), (640, 480)), buckets=(400,)
    )
    mini = manifest()
    windows = Sizes.of(16, 16, mini).windows
    assert windows < 400
    assert [engine.name for engine in engine_specs(mini, options)] == [
        f"refine-k{windows}",
        "refine-k400",
        f"classify-16x16-k{windows}",
        "classify-640x480-k400",
    ]


def test_an_engine_for_a_longer_side_has_the_levels_of_that_pipeline() -> None:
    mini = manifest()
    options = refine_options(stages=("propose",), image_sizes=((1600, 1200),), max_side=1600)
    (engine,) = engine_specs(mini, options)
    longer = replace(mini.pyramid, max_side=1600)
    sizes = Sizes.of(1200, 1600, replace(mini, pyramid=longer))
    shapes = [profile["image"].optimum for profile in engine.profiles]
    assert shapes == [(1, 3, one.canvas_height, one.canvas_width) for one in sizes.levels]


def test_masks_are_pasted_into_images_of_the_height_and_width_of_the_engine() -> None:
    mini = manifest()
    paste = StageSpec(
        file="paste.onnx",
        inputs=(
            TensorSpec(name="logits", dtype="float32", shape=("windows", 56, 56)),
            TensorSpec(name="size", dtype="int64", shape=(2,)),
        ),
        outputs=(
            TensorSpec(
                name="bits", dtype="int64", shape=("windows", "image_height", "image_words")
            ),
        ),
    )
    pasting = replace(mini, presets={}, stages={**mini.stages, "paste": paste})
    options = refine_options(stages=("paste",), buckets=(7,))
    (any_image,) = engine_specs(pasting, options)
    size, high = any_image.profiles[0]["size"], mini.pyramid.max_side
    assert (size.minimum, size.maximum) == ((1, 1), (high, high))
    assert size.optimum == (3 * high // 4, high)  # an image of 4:3
    (one_image,) = engine_specs(pasting, replace(options, image_sizes=((640, 480),)))
    assert one_image.name == "paste-640x480-k7"
    size, logits = one_image.profiles[0]["size"], one_image.profiles[0]["logits"]
    assert size.minimum == size.optimum == size.maximum == (480, 640)
    assert logits.minimum == logits.optimum == logits.maximum == (7, 56, 56)


def test_a_trunk_of_its_own_is_best_for_images_of_four_to_three() -> None:
    spec = replace(OWN, features=FeaturesSpec(short_side=470, long_side=1000))
    options = refine_options(stages=("features",), buckets=())
    image = engine_specs(spec, options)[0].profiles[0]["image"]
    multiple = OWN.stages["features"].largest_stride
    assert multiple == 32
    assert image.minimum == (1, 3, 32, 32)
    assert image.optimum == (1, 3, 480, 640)  # 470 and 627, rounded up to a multiple
    assert image.maximum == (1, 3, 1024, 1024)


def test_a_fixed_image_without_a_bucket_takes_the_manifests_number_of_windows() -> None:
    options = refine_options(buckets=(), image_sizes=((640, 480),))
    (engine,) = engine_specs(replace(manifest(), presets={}), options)
    assert engine.name == "refine-k250"
    assert engine.profiles[0]["vectors"].minimum == (250, 64)


def test_a_range_of_the_user_wins() -> None:
    options = refine_options(stages=("classify",), buckets=(), ranges={"boxes": (5, 300, 400)})
    boxes = engine_specs(manifest(), options)[0].profiles[0]["boxes"]
    assert (boxes.minimum, boxes.optimum, boxes.maximum) == ((5, 4), (300, 4), (400, 4))


def test_an_unknown_dimension_is_refused_with_those_that_there_are() -> None:
    options = refine_options(ranges={"rows": (1, 2, 3)})
    with pytest.raises(OptionError, match="no stage has a dimension 'rows': use one of boxes, h"):
        engine_specs(manifest(), options)


def test_a_dimension_that_the_manifest_does_not_bound_asks_for_a_range() -> None:
    mini = manifest()
    refine = mini.stages["refine"]
    first = replace(refine.inputs[0], shape=("heads", 64))
    stages = mini.stages | {"refine": replace(refine, inputs=(first, *refine.inputs[1:]))}
    with pytest.raises(OptionError) as caught:
        engine_specs(replace(mini, stages=stages), refine_options())
    assert str(caught.value) == (
        "the manifest gives no range for the dimension 'heads' of the stage 'refine': pass one: "
        "--range heads=1:16:64"
    )


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(OptionError, match="no stage 'detect': use propose, refine, features, cl"):
        engine_specs(manifest(), refine_options(stages=("detect",)))


def request_of(
    options: CompileOptions, archs: tuple[str, ...] = ("sm_89",), plugins: Path | None = None
) -> BuildRequest:
    (engine,) = engine_specs(manifest(), options)
    key = key_with(stage=engine.stage, archs=archs, profiles=engine.profiles)
    return BuildRequest(name=engine.name, key=key, onnx=Path("x.onnx"), plugins=plugins)


def test_the_command_of_nvidias_tool_says_the_same() -> None:
    options = refine_options(optimization_level=5, workspace_mb=512)
    plan = Path("a b.plan")
    line = trtexec_command(request_of(options, archs=("sm_86", "sm_89")), plan, options)
    shapes = (
        "vectors:2x64,horizontal_1:2x16x10x10,horizontal_2:2x8x20x20,horizontal_3:2x8x40x40,"
        "horizontal_4:2x4x80x80,scores:2x1"
    )
    assert line.startswith("tensorrt_rtx --onnx=")
    assert "'--saveEngine=a b.plan'" in line
    for kind in ("min", "opt", "max"):
        assert f" --{kind}Shapes={shapes} " in line
    assert (
        " --computeCapabilities=86,89 --builderOptimizationLevel=5 --memPoolSize=workspace:512 "
        in line
    )


def test_the_command_for_tensorrt_has_its_own_options() -> None:
    options = refine_options(
        target="tensorrt",
        hardware_compatibility="ampere+",
        version_compatible=True,
        refit=True,
        stages=("propose",),
        image_sizes=((640, 480),),
    )
    request = request_of(options, plugins=Path("/lib.so"))
    line = trtexec_command(request, Path("p.plan"), options)
    assert line.startswith("trtexec ")
    assert " --profile=7 --minShapes=image:1x3x1056x1376 " in line
    assert "computeCapabilities" not in line
    for word in (
        "dynamicPlugins=/lib.so",
        "hardwareCompatibilityLevel=ampere+",
        "versionCompatible",
        "refit",
        "stronglyTyped",
        "noTF32",
    ):
        assert f" --{word} " in f"{line} "


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    for allowed in (False, True):
        options = refine_options(tf32=allowed)
        line = trtexec_command(request_of(options), Path("x.plan"), options)
        assert ("--noTF32" in line) is not allowed
        assert options.builder_options()["tf32"] is allowed
