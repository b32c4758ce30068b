# SPDX-License-Identifier: Apache-2.0
"""`foveate verify --emulate-fp16`: the rounding of a GPU, which a CPU does not show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.samples.paths import CAT
from tests.samples.verified_bundles import small_bundle, stage_models

from foveate.bundle import Bundle, write_bundle
from foveate.cli import invoke
from foveate.errors import OptionError
from foveate.export.checks.record import check_record
from foveate.export.checks.verification import measure
from foveate.export.execution.sessions import bundle_reference
from foveate.export.precision.conversion import convert
from foveate.export.precision.options import PrecisionOptions


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "exact")


@pytest.fixture(scope="module")
def half(exact: Bundle) -> Bundle:
    options = PrecisionOptions(stages={"propose": "fp16", "refine": "fp16"}, images=(CAT,))
    found = convert(exact.manifest, stage_models(exact), options)
    source = replace(exact.manifest.source, precision=found.precision)
    files = {f"{name}.onnx": model.SerializeToString() for name, model in found.models.items()}
    return write_bundle(exact.root.parent / "half", replace(exact.manifest, source=source), files)


def test_an_emulated_run_shows_a_larger_error_where_a_stage_is_in_fp16_and_passes(
    exact: Bundle, half: Bundle
) -> None:
    reference = bundle_reference(half, exact)
    plain, rounded = (
        measure(half, reference, [CAT], emulate_fp16=asked) for asked in (False, True)
    )
    assert plain.backend == "ONNX Runtime on the CPU"
    assert rounded.backend == "ONNX Runtime on the CPU, float16 emulated"
    for stage, output in (("propose", "scores"), ("refine", "logits")):
        before, after = (one.images[0].stages[stage][output].mean_error for one in (plain, rounded))
        assert after > 1.1 * before, stage
    for stage in ("features", "classify"):  # in float32
        assert plain.images[0].stages[stage] == rounded.images[0].stages[stage]
    check_record(rounded)


def test_a_bundle_without_float16_has_nothing_to_round(exact: Bundle) -> None:
    with pytest.raises(OptionError) as caught:
        measure(exact, bundle_reference(exact, exact), [CAT], emulate_fp16=True)
    assert str(caught.value) == (
        "no stage of 'mini' is in fp16, so there is nothing to round: omit --emulate-fp16, or "
        "export with --precision fp16"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--from-report --image a.jpg --score-threshold 0.25", "--image, --score-threshold"),
        ("--from-report --dataset d --limit 3", "--dataset, --limit"),
        ("--bisect --dataset d --report r.json --box 1", "--dataset, --report, --box"),
    ],
)
def test_options_without_an_effect_are_refused(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["verify", "nowhere", *words.split()]) == 1
    way = words.split(maxsplit=1)[0]
    assert f"{way} takes no {message}: omit one or the other" in capsys.readouterr().err


def test_a_limit_of_images_needs_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["verify", "nowhere", "--limit", "3"]) == 1
    assert "--limit is a number of images of --dataset, which is missing" in capsys.readouterr().err


def test_ways_of_verifying_exclude_each_other(
    half: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["verify", str(half.root), "--emulate-fp16", "--bisect"]) == 1
    assert "--emulate-fp16, --bisect, --from-report exclude each other: pass only one of them" in (
        capsys.readouterr().err
    )
