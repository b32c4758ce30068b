# SPDX-License-Identifier: Apache-2.0
"""The choice of presets among the configurations of a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bench.sweeps import ALL, point, ratio, result, sweep_of
from tests.conftest import contrast_manifest, propose_stage, refine_stage, write_contrast_bundle

from foveate.bench.preset_choice import ChoiceOptions, choose_presets
from foveate.bench.sweep import networks_digest
from foveate.bench.sweep_record import Point, SweepRecord
from foveate.bundle import Bundle, FileSpec, write_presets
from foveate.errors import InputError, OptionError

MANIFEST = contrast_manifest({"propose": propose_stage()[1], "refine": refine_stage()[1]})
HALF, FEW = ALL[1::2], ALL[1:4:2]


def sweep(*points: Point, **changes: Any) -> SweepRecord:
    return sweep_of(list(points), digest=networks_digest(MANIFEST), **changes)


def names_of(*points: Point, **shares: Any) -> dict[str, tuple[float, ...] | None]:
    """Return the levels of each preset that is chosen."""
    found = choose_presets(sweep(*points), MANIFEST, ChoiceOptions(**shares))
    return {name: preset.scales for name, preset in found.items()}


def test_presets_are_the_fastest_that_keep_their_share() -> None:
    points = (point((0.20,)), point((0.19,), 0.5, HALF), point((0.17,), 0.3, FEW))
    assert names_of(*points) == {"accurate": None, "balanced": HALF, "fast": FEW}
    assert names_of(*points, fast=0.9) == {"accurate": None, "balanced": HALF, "fast": HALF}
    assert names_of(*points, balanced=1.0)["balanced"] is None


def test_no_data_set_pays_for_another_one() -> None:
    """The few levels keep nearly all on average, and lose half of one data set."""
    points = (point((0.2, 0.2)), point((0.2, 0.19), 0.5, HALF), point((0.1, 0.28), 0.3, FEW))
    assert names_of(*points) == {"accurate": None, "balanced": HALF, "fast": HALF}


def test_a_data_set_of_which_nothing_is_found_loses_nothing() -> None:
    points = (point((0.2, 0.0)), point((0.19, 0.0), 0.5, HALF))
    assert names_of(*points) == {"accurate": None, "balanced": HALF, "fast": HALF}


def test_accurate_may_be_another_one_than_the_default() -> None:
    assert names_of(point((0.20,)), point((0.21,), 0.5, HALF))["accurate"] == HALF


def test_other_threads_and_other_bundles_are_no_presets() -> None:
    points = (
        point((0.2,)),
        point((0.2,), 0.5, HALF, threads=4),
        point((0.2,), 0.4, FEW, bundle="int8"),
        point((0.2,), 0.3, FEW, max_in_flight=4),
        point((0.2,), 0.6, HALF),
    )
    assert names_of(*points) == {"accurate": HALF, "balanced": HALF, "fast": HALF}


def test_a_preset_has_its_options_and_what_was_measured() -> None:
    fast = point((0.19126, 0.4), 0.51236, HALF, top_k=10, max_side=200, window_nms_iou=0.5)
    fast = replace(fast, datasets=fast.datasets | {"b": result(0.4, 0.6)})
    found = choose_presets(sweep(point((0.2, 0.4)), fast), MANIFEST)["fast"]
    assert found.options == {"scales": HALF, "top_k": 10, "max_side": 200, "window_nms_iou": 0.5}
    time = found.relative_time
    assert (time.low, time.value, time.high) == (0.5021, 0.5124, 0.5226)
    assert found.measured["a"].relative_time == time
    assert found.measured["a"].figures["mask AR@100"] == 0.1913
    assert found.measured["b"].relative_time.value == 0.6
    assert (found.measured["b"].images, found.measured["b"].objects) == (4, 9)
    assert found.conditions["processor"] == "a processor"
    assert found.conditions["machine"] == "fit to publish"
    assert found.conditions["threads"] == "one per core"


def test_the_default_configuration_sets_nothing_and_has_a_time_of_one() -> None:
    accurate = choose_presets(sweep(point((0.2,))), MANIFEST)["accurate"]
    assert accurate.options == {}
    assert accurate.relative_time.value == 1.0


def test_a_sweep_holds_for_the_networks_whatever_is_written_about_them() -> None:
    card = FileSpec(sha256="0" * 64, size=1)
    described = replace(MANIFEST, provenance={"accuracy": {}}, files={"MODEL_CARD.md": card})
    assert networks_digest(described) == networks_digest(MANIFEST)
    other = replace(MANIFEST, files={"propose.onnx": card})
    assert networks_digest(other) != networks_digest(MANIFEST)


def test_presets_can_be_written_again(tmp_path: Path) -> None:
    opened = Bundle.open(write_contrast_bundle(tmp_path / "contrast"))
    digest = networks_digest(opened.manifest)
    measured = sweep_of([point((0.2,)), point((0.2,), 0.5, HALF)], digest=digest)
    written = write_presets(opened, choose_presets(measured, opened.manifest))
    assert choose_presets(measured, written.manifest) == written.manifest.presets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"interrupted": True, "planned": 5},
            "the sweep was interrupted after 1 of 5 configurations: run it to its end, or choose",
        ),
        (
            {"digest": "1" * 64},
            "measured other networks than those of the bundle 'contrast': run `foveate bench sweep`",
        ),
    ],
)
def test_sweeps_that_say_nothing_of_the_bundle_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        choose_presets(replace(sweep(point((0.2,))), **changes), MANIFEST)


def test_a_part_of_a_sweep_is_chosen_from_on_request() -> None:
    part = sweep(point((0.2,)), point((0.2,), 0.5, HALF), interrupted=True, planned=5)
    found = choose_presets(part, MANIFEST, ChoiceOptions(partial=True))
    assert found["fast"].scales == HALF
    assert found["fast"].conditions["configurations"] == "2 of 5"
    with pytest.raises(InputError, match="interrupted after 0 of 5 configurations"):
        choose_presets(replace(part, points=()), MANIFEST, ChoiceOptions(partial=True))


def test_a_data_set_without_objects_decides_nothing() -> None:
    with pytest.raises(InputError, match="a data set of the sweep has no average recall"):
        choose_presets(sweep(point((0.2, None))), MANIFEST)


@pytest.mark.parametrize("name", ["balanced", "fast"])
@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_is_above_zero_and_at_most_one(name: str, share: float) -> None:
    values: dict[str, Any] = {name: share}
    with pytest.raises(OptionError, match=f"{name} must be above 0 and at most 1, found {share:g}"):
        ChoiceOptions(**values)


def test_equal_recall_takes_the_faster_one() -> None:
    slow = point((0.2,), 1.2, FEW)
    assert slow.time == ratio(1.2)
    assert names_of(slow, point((0.2,), 0.9, HALF))["accurate"] == HALF
