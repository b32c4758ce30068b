# SPDX-License-Identifier: Apache-2.0
"""`foveate bench sweep`, `foveate bench presets`, and `--preset` of the other commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from tests.conftest import write_contrast_bundle

from foveate.bench.json_schema import sweep_schema
from foveate.bench.session import Target
from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.cli._bench_targets import rival_of
from foveate.errors import BackendError
from foveate.runtime import PipelineOptions
from foveate.runtime.loading import open_parts as open_cpu_parts

OCTAVES = "0.354,0.707,1.414"
QUICK = ["--scales", OCTAVES, "--top-k", "5", "--threads", "1", "--timed", "2", "--turns", "8"]


def write_dataset(folder: Path, label: str, images: int = 1) -> Path:
    """Write a data set of one bright square per image, of which the last is not annotated."""
    (folder / "images").mkdir(parents=True)
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[10:50, 20:60, 2] = 255
    names = ["square.png", *(f"square-{number}.png" for number in range(2, images + 1))]
    for name in names:
        cv2.imwrite(str(folder / "images" / name), pixels)
    annotation = {
        "category_id": 1,
        "segmentation": [[20, 10, 60, 10, 60, 50, 20, 50]],
        "area": 1600,
        "bbox": [20, 10, 40, 40],
        "iscrowd": 0,
    }
    document = {
        "images": [
            {"id": number, "file_name": name, "height": 60, "width": 80}
            for number, name in enumerate(names, 1)
        ],
        "categories": [{"id": 1, "name": label}],
        "annotations": [
            annotation | {"id": number, "image_id": number} for number in range(1, max(2, images))
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(document), "utf-8")
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("data")
    folders = [write_dataset(root / "red", "red", 5), write_dataset(root / "other", "square")]
    return [word for folder in folders for word in ("--dataset", str(folder))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of its own, since presets are written to it."""
    return write_contrast_bundle(tmp_path_factory.mktemp("bundles") / "contrast")


@pytest.fixture(scope="module")
def record(bundle: Path, datasets: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("records") / "sweep.json"
    assert invoke(["bench", "sweep", str(bundle), *datasets, *QUICK, "--json", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def preset_bundle(bundle: Path, record: Path) -> Path:
    assert invoke(["bench", "presets", str(bundle), str(record), "--fast", "0.0001"]) == 0
    return bundle


def document_of(record: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(record.read_text("utf-8"))
    jsonschema.validate(document, sweep_schema())
    return document


def test_a_sweep_has_the_accuracy_and_the_time_of_each_configuration(record: Path) -> None:
    document = document_of(record)
    assert not document["interrupted"]
    default, other = document["points"]
    assert (default["time"], other["configuration"]["scales"]) == (None, [0.3536, 0.7071, 1.4142])
    assert other["time"]["low"] <= other["time"]["value"] <= other["time"]["high"]
    assert set(other["datasets"]) == {"red", "other"}
    for dataset in other["datasets"].values():
        assert dataset["time"]["value"] > 0
        assert 0 <= dataset["figures"]["mask AR@100"]["value"] <= 1
    red, square = document["datasets"]["red"], document["datasets"]["other"]
    assert (red["images"], red["objects"], square["images"]) == (5, 4, 1)
    # Two of five, spread over them.
    assert [one["name"] for one in red["timed"]] == ["square-2.png", "square-4.png"]
    assert [one["name"] for one in square["timed"]] == ["square.png"]
    assert document["backend"] == "onnxruntime"


def test_a_configuration_that_fails_leaves_the_others(
    bundle: Path,
    datasets: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def open_parts(bundle: Bundle, device: str, backend: str, options: PipelineOptions) -> Any:
        if options.top_k == 5:
            raise MemoryError
        if options.top_k == 6:
            raise BackendError("no engine is for 6 proposals", remedy="compile one")
        return open_cpu_parts(bundle, device, backend, options)

    monkeypatch.setattr("foveate.cli._bench._open_parts", open_parts)
    file, more = tmp_path / "sweep.json", ["--top-k", "6", "--top-k", "7", "--json"]
    assert invoke(["bench", "sweep", str(bundle), *datasets, *QUICK, *more, str(file)]) == 1
    document = document_of(file)
    assert not document["interrupted"]
    assert [one["configuration"]["top_k"] for one in document["points"]][1:] == [7]
    assert [one["configuration"]["top_k"] for one in document["failed"]] == [5, 6]
    short, missing = (one["reason"] for one in document["failed"])
    assert short.startswith("there is not enough memory: free some memory")
    assert missing == "no engine is for 6 proposals: compile one"
    out, err = capsys.readouterr()
    assert "2 of 4 configurations failed" in out
    assert "no engine is for 6 proposals: compile one" in out
    assert "foveate: 2 of 4 configurations failed, the others were measured: there is" in err
    assert invoke(["bench", "presets", str(bundle), str(file)]) == 0


def test_a_bug_in_a_configuration_ends_the_sweep(
    bundle: Path,
    datasets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def open_parts(bundle: Bundle, device: str, backend: str, options: PipelineOptions) -> Any:
        if options.top_k == 5:
            raise ZeroDivisionError("division by zero")
        return open_cpu_parts(bundle, device, backend, options)

    monkeypatch.setattr("foveate.cli._bench._open_parts", open_parts)
    assert invoke(["bench", "sweep", str(bundle), *datasets, *QUICK]) == 1
    assert "internal error (ZeroDivisionError: division by zero)" in capsys.readouterr().err


def test_a_default_configuration_that_fails_is_one_line(
    bundle: Path,
    datasets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def open_parts(*given: object) -> Any:
        raise BackendError("no engine works")

    monkeypatch.setattr("foveate.cli._bench._open_parts", open_parts)
    assert invoke(["bench", "sweep", str(bundle), *datasets, *QUICK]) == 1
    assert capsys.readouterr().err.endswith("no engine works\n")


def test_precision_is_measured_only_where_a_class_is_in_common(record: Path) -> None:
    figures = {
        name: one["figures"] for name, one in document_of(record)["points"][0]["datasets"].items()
    }
    assert "mask AP" in figures["red"]
    assert "mask AP" not in figures["other"]


def test_presets_are_written_with_their_figures(
    preset_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = Bundle.open(preset_bundle).manifest.presets
    assert set(presets) == {"accurate", "balanced", "fast"}
    assert presets["fast"].measured["red"].images == 5
    assert invoke(["inspect", str(preset_bundle)]) == 0
    out = capsys.readouterr().out
    assert "  preset fast: " in out
    assert "    red: 5 images, " in out


def test_commands_take_a_preset(
    preset_bundle: Path, datasets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Path(datasets[1]) / "images" / "square.png"
    name, file = str(preset_bundle), tmp_path / "out.json"
    fast = ["--preset", "fast", "--json", str(file)]
    assert invoke(["run", str(image), "--bundle", name, *fast]) == 0
    assert invoke(["evaluate", name, *datasets[:2], *fast]) == 0
    assert json.loads(file.read_text("utf-8"))["subject"].endswith(", preset fast")
    assert invoke(["bench", name, str(image), "--count", "8", "--warm-up", "0", *fast]) == 0
    options = json.loads(file.read_text("utf-8"))["subject"]["options"]
    chosen = Bundle.open(preset_bundle).manifest.presets["fast"].options
    assert options == {
        "preset": "fast",
        **{k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()},
    }
    assert "preset fast: single-stream" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("against", "expected"),
    [
        ("balanced", ("contrast", "balanced")),
        ("contrast", ("contrast", None)),
        ("x", ("x", "fast")),
    ],
)
def test_a_preset_is_measured_against_another_one_or_none(
    preset_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    against: str,
    expected: tuple[str, str | None],
) -> None:
    monkeypatch.chdir(preset_bundle.parent)
    options = PipelineOptions(preset="fast")
    target = Target(bundle="contrast", device="cpu", backend="auto", options=options)
    rival = rival_of(target, against)
    assert (rival.bundle, rival.options.preset) == expected


@pytest.mark.parametrize("command", ["run", "evaluate", "bench", "demo"])
def test_an_unknown_preset_is_one_line(
    command: str,
    contrast_bundle: Path,
    datasets: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    image, name = str(Path(datasets[1]) / "images" / "square.png"), str(contrast_bundle)
    words = {
        "run": [image, "--bundle", name],
        "evaluate": [name, *datasets[:2]],
        "bench": [name, image],
        "demo": ["--bundle", name],
    }[command]
    assert invoke([command, *words, "--preset", "fast"]) == 1
    err = capsys.readouterr().err
    assert "the bundle 'contrast' has no presets, found the preset 'fast'" in err
    assert err.count("\n") == 1


def test_levels_are_an_option_of_a_measurement(
    contrast_bundle: Path, datasets: list[str], tmp_path: Path
) -> None:
    image, file = Path(datasets[1]) / "images" / "square.png", tmp_path / "record.json"
    words = ["--scales", OCTAVES, "--max-side", "64", "--count", "8", "--warm-up", "0"]
    assert invoke(["bench", str(contrast_bundle), str(image), *words, "--json", str(file)]) == 0
    found = json.loads(file.read_text("utf-8"))
    assert found["inputs"][0]["levels"] == 3
    assert found["subject"]["options"] == {"scales": [0.354, 0.707, 1.414], "max_side": 64}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scales", "few"], "--scales must be numbers with commas between them, found 'few'"),
        (["--scales", "3.5"], "the bundle 'contrast' has no level of the scale 3.5: use 0.25, "),
        (["--turns", "3"], "turns must be at least 8, found 3"),
        (
            ["--max-in-flight", "1", "--max-in-flight", "2"],
            "--max-in-flight changes nothing in the",
        ),
        (["--scenario", "server"], "scenario must be "),
        (["--variant", "no-bundle"], "there is no such bundle: no-bundle"),
        (["--backend", "none"], "there is no backend 'none'"),
        (["--dataset", "no-data"], "no-data"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    contrast_bundle: Path,
    datasets: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["bench", "sweep", str(contrast_bundle), *datasets, *words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_data_set_given_twice_is_one_line(
    contrast_bundle: Path, datasets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [*datasets[:2], *datasets[:2]]
    assert invoke(["bench", "sweep", str(contrast_bundle), *twice]) == 1
    assert "is given twice: pass it once" in capsys.readouterr().err


def test_a_record_of_another_bundle_is_one_line(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "presets", "mini", str(record)]) == 1
    err = capsys.readouterr().err
    assert "the sweep measured other networks than those of the bundle 'mini'" in err
    assert err.count("\n") == 1


def test_an_interrupted_sweep_keeps_what_was_measured(
    contrast_bundle: Path, datasets: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "sweep.json"
    words = ["bench", "sweep", str(contrast_bundle), *datasets, "--turns", "100000"]
    command = [sys.executable, "-m", "foveate", *words, "--json", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "timing" in line:  # the default configuration is done, and the next one is timed
                process.send_signal(signal.SIGINT)
                break
        err = process.stderr.read()
    assert process.returncode == 130
    assert f"1 of 8 configurations measured, partial figures in {file}" in err
    document = document_of(file)
    assert document["interrupted"]
    assert (len(document["points"]), document["planned"]) == (1, 8)


def test_the_schema_of_sweeps_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "schema", "--sweep"]) == 0
    assert json.loads(capsys.readouterr().out) == sweep_schema()


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "sweep", "--help"]) == 0
    assert "--max-in-flight" in capsys.readouterr().out
    assert invoke(["bench", "presets", "--help"]) == 0
    assert "--balanced" in capsys.readouterr().out
