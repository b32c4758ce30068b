# SPDX-License-Identifier: Apache-2.0
"""The limits of a bundle on one image: shapes of its runs, rooflines, and the record."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import pytest
from tests.bench.works import CEILINGS, node_work, stage_work
from tests.samples.paths import CAT
from tests.samples.verified_bundles import small_bundle

from foveate.arrays import Array
from foveate.bench.ceilings import measure_ceilings
from foveate.bench.image_shapes import image_shapes
from foveate.bench.limits import count_stages, limits_of, roofline
from foveate.bench.work import Shape, StageWork
from foveate.bundle import Bundle, SelectSpec
from foveate.images.reading import read_image
from foveate.runtime import load
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.sizes import Sizes

HEIGHT, WIDTH = 60, 90
Arrays = dict[str, Array]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("limits") / "small")


def sizes_of(bundle: Bundle) -> Sizes:
    return Sizes.of(HEIGHT, WIDTH, bundle.manifest)


@pytest.fixture(scope="module")
def work(bundle: Bundle) -> dict[str, StageWork]:
    return count_stages(bundle, bundle.manifest, sizes_of(bundle), boxes=3, on_cpu=True, threads=1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Shape]]:
    """Record the shapes of the inputs of all runs of networks, as the pipeline runs them."""
    found: list[dict[str, Shape]] = []
    run = OnnxRuntimeEngine.run

    def recorded(engine: OnnxRuntimeEngine, inputs: Arrays, outputs: Arrays) -> None:
        found.append({name: array.shape for name, array in inputs.items()})
        run(engine, inputs, outputs)

    monkeypatch.setattr(OnnxRuntimeEngine, "run", recorded)
    return found


def test_the_shapes_are_those_that_the_pipeline_runs(
    bundle: Bundle, seen: list[dict[str, Shape]]
) -> None:
    with load(bundle.root, device="cpu") as pipeline:
        pipeline(cv2.resize(read_image(CAT), (WIDTH, HEIGHT)))
    (boxes,) = {one["boxes"][0] for one in seen if "boxes" in one}
    shapes = image_shapes(
        bundle.manifest, sizes_of(bundle), boxes=boxes, rows_at_once=OnnxRuntimeEngine.rows_at_once
    )
    assert sorted(map(repr, seen)) == sorted(repr(run) for runs in shapes.values() for run in runs)


def test_windows_are_split_into_runs_and_never_more_than_exist(bundle: Bundle) -> None:
    sizes = sizes_of(bundle)
    many = replace(bundle.manifest, select=SelectSpec(top_k=10_000, window_nms_iou=0.8))
    (whole,) = image_shapes(many, sizes, boxes=1)["refine"]
    assert whole["vectors"][0] == sizes.windows
    parts = image_shapes(bundle.manifest, sizes, boxes=1, rows_at_once=3)["refine"]
    assert [part["vectors"][0] for part in parts] == [3, 3, 2]


def test_more_boxes_are_more_work_for_classify_alone(
    bundle: Bundle, work: dict[str, StageWork]
) -> None:
    more = count_stages(bundle, bundle.manifest, sizes_of(bundle), boxes=5, on_cpu=True, threads=1)
    assert more["classify"].operations > work["classify"].operations
    assert more["classify"].node_bytes > work["classify"].node_bytes
    for stage in ("propose", "refine", "features"):
        assert more[stage] == work[stage]


def test_every_stage_has_its_limit_on_a_cpu(bundle: Bundle, work: dict[str, StageWork]) -> None:
    kinds = {kind for one in work.values() for kind in one.operations_by_kind()}
    ceilings = measure_ceilings(kinds, threads=1, seconds=0.0, size=1 << 16)
    found = limits_of(work, bundle.manifest, ceilings, {"propose": 0.5})
    assert set(found.stages) == set(bundle.manifest.networks)
    for stage, one in found.stages.items():
        assert one.operations == work[stage].operations == sum(k.operations for k in one.kinds)
        assert (one.bytes, one.node_bytes) == (work[stage].bytes, work[stage].node_bytes)
        assert one.roofline is not None
        assert one.roofline.least_seconds is not None
        assert (one.roofline.ratio is not None) == (stage == "propose")
    assert found.stages["propose"].runs == 2
    json.dumps(asdict(found))


def test_without_ceilings_there_are_labeled_predictions_alone(
    bundle: Bundle, work: dict[str, StageWork]
) -> None:
    found = limits_of(work, bundle.manifest, None, {"propose": 0.5})
    for one in found.stages.values():
        assert one.roofline is None
        assert {prediction.origin for prediction in one.predictions} == {"predicted"}
        for prediction in one.predictions:
            assert 0 < prediction.least_seconds <= prediction.most_seconds


def test_the_counts_need_no_package_of_the_export(tmp_path: Path) -> None:
    """In a fresh process, since this one has imported everything."""
    import subprocess
    import sys

    code = "import sys, foveate.bench.limits; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert {"onnx", "torch"}.isdisjoint(run.stdout.split())


def test_a_stage_of_high_intensity_is_bound_by_arithmetic() -> None:
    found = roofline(stage_work(node_work(2000), moved=100), CEILINGS, 40.0)
    assert (found.bound, found.compute_ceiling, found.memory_ceiling) == ("arithmetic", 100, 200)
    assert (found.intensity, found.least_seconds) == (20.0, 20.0)
    assert (found.reached, found.ratio) == (50.0, 0.5)


def test_a_stage_of_low_intensity_is_bound_by_memory() -> None:
    found = roofline(stage_work(node_work(500), moved=100), CEILINGS, 20.0)
    assert (found.bound, found.memory_ceiling, found.least_seconds) == ("memory", 50.0, 10.0)
    assert (found.compute_ceiling, found.ratio) == (100.0, 0.5)


def test_the_ceiling_of_a_mix_is_the_time_of_its_kinds_one_after_the_other() -> None:
    """2000 at 100 per second, 300 at 10 and 4000 at 400 take 20 + 30 + 10 seconds."""
    mixed = stage_work(
        node_work(2000),
        node_work(300, kind="depthwise"),
        node_work(4000, precision="int8"),
        node_work(0, kind="other"),
    )
    found = roofline(mixed, CEILINGS)
    assert found.least_seconds == pytest.approx(60.0)
    assert found.compute_ceiling == pytest.approx(105.0)
    assert (found.seconds, found.reached, found.ratio) == (None, None, None)


def test_all_runs_of_a_stage_count() -> None:
    found = roofline(stage_work(node_work(2000), runs=3), CEILINGS, 60.0)
    assert found.ratio == 1.0


def test_a_stage_without_operations_is_bound_by_memory() -> None:
    found = roofline(stage_work(moved=100), CEILINGS, 20.0)
    assert (found.compute_ceiling, found.bound, found.ratio) == (None, "memory", 0.5)


def test_a_kind_without_a_measured_rate_leaves_the_ratio_open() -> None:
    found = roofline(stage_work(node_work(10, precision="fp64")), CEILINGS, 20.0)
    assert (found.compute_ceiling, found.bound, found.least_seconds, found.ratio) == (None,) * 4
    assert found.reached == 0.5
