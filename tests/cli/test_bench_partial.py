# SPDX-License-Identifier: Apache-2.0
"""What `foveate bench` keeps when a later part of a measurement fails or is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from tests.cli.test_bench_sweep import QUICK, write_dataset

from foveate.arrays import UInt8Array
from foveate.bench.json_schema import record_schema, sweep_schema
from foveate.bench.options import BenchOptions
from foveate.bench.session import Session, Target
from foveate.bundle import Bundle, write_bundle
from foveate.cli import invoke
from foveate.errors import BackendError, InputError
from foveate.images.reading import read_image
from foveate.runtime import PipelineOptions
from foveate.runtime.devices.cpu import CpuDevice
from foveate.runtime.loading import open_parts


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of nine images of one size."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    for index in range(9):
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    return folder


def damage_after(reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of a run with --decoding be damaged after a number of reads."""
    left = iter(range(reads))

    def read(file: Path) -> UInt8Array:
        if next(left, None) is None:
            raise InputError("the image is damaged", file=file, remedy="copy it again")
        return read_image(file)

    monkeypatch.setattr("foveate.bench.system.read_image", read)


def document_of(file: Path, schema: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    jsonschema.validate(document, schema)
    return document


def test_an_image_that_fails_keeps_those_before_it(
    contrast_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "record.json"
    damage_after(1 + 8, monkeypatch)  # one is the warm-up
    words = [str(contrast_bundle), str(images), "--decoding", "--warm-up", "0", "--count", "40"]
    assert invoke(["bench", *words, "--json", str(file)]) == 1
    record = document_of(file, record_schema())
    assert record["interrupted"]
    assert record["outcome"]["images"] == 8
    printed = capsys.readouterr()
    assert "(interrupted: partial figures)" in " ".join(printed.out.split())
    lines = printed.err.splitlines()
    assert lines[-2] == f"8 images measured, partial figures in {file}"
    assert lines[-1].startswith("foveate: the image is damaged: ")


def test_an_image_that_fails_in_a_turn_keeps_those_before_it(
    contrast_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record.json"
    damage_after(2 + 9 + 3, monkeypatch)
    words = [str(contrast_bundle), str(images), "--decoding", "--warm-up", "0"]
    words += ["--against", "onnxruntime", "--json", str(file)]
    assert invoke(["bench", *words]) == 1
    record = document_of(file, record_schema())
    assert record["outcome"]["images"] == 9
    assert record["against"]["record"]["outcome"]["images"] == 3
    assert record["against"]["comparison"] is None


def test_a_failure_before_any_image_replaces_no_record(
    contrast_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "record.json"
    file.write_text("the record of yesterday", "utf-8")
    damage_after(0, monkeypatch)
    words = [str(contrast_bundle), str(images), "--decoding", "--json", str(file)]
    assert invoke(["bench", *words]) == 1
    assert file.read_text("utf-8") == "the record of yesterday"
    assert capsys.readouterr().err.count("\n") == 1


def test_a_data_set_that_fails_keeps_the_times(
    contrast_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", "red")
    damaged = data / "images" / "square.png"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    file = tmp_path / "record.json"
    words = [str(contrast_bundle), str(images / "0.png"), "--count", "8", "--warm-up", "0"]
    assert invoke(["bench", *words, "--dataset", str(data), "--json", str(file)]) == 1
    record = document_of(file, record_schema())
    assert (record["interrupted"], record["accuracy"]) == (False, None)
    assert record["outcome"]["images"] >= 8
    assert "where the time goes" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_loses_neither_the_table_nor_the_page(
    contrast_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = [str(contrast_bundle), str(images / "0.png"), "--count", "8", "--warm-up", "0"]
    assert invoke(["bench", *words, "--json", "/dev/full", "--html", str(page)]) == 1
    printed = capsys.readouterr()
    assert "where the time goes" in printed.out
    assert "No space left on device" in printed.err
    assert page.is_file()


@pytest.fixture(scope="module")
def broken(contrast_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose manifest is right, and of which one network cannot be loaded."""
    opened = Bundle.open(contrast_bundle)
    files = {name: (contrast_bundle / name).read_bytes() for name in opened.manifest.files}
    files[opened.manifest.stages["refine"].file] = b"no network"
    manifest = replace(opened.manifest, name="broken")
    return write_bundle(tmp_path_factory.mktemp("bundles") / "broken", manifest, files).root


def test_a_configuration_that_fails_leaves_the_others(
    contrast_bundle: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", "red")
    words = [str(contrast_bundle), "--dataset", str(data), *QUICK, "--variant", str(broken)]
    assert invoke(["bench", "sweep", *words, "--json", "-"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, sweep_schema())
    assert not document["interrupted"]
    assert (len(document["points"]), document["planned"]) == (2, 3)
    (failed,) = document["failed"]
    assert failed["configuration"]["bundle"] == str(broken)
    assert "refine" in failed["reason"]
    last = printed.err.splitlines()[-1]
    assert last.startswith("foveate: 1 of 3 configurations failed, the others were measured: ")


def test_an_error_that_is_a_bug_keeps_the_configurations_before_it(
    contrast_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*given: object) -> None:
        raise ValueError("wrong")

    monkeypatch.setattr("foveate.bench.sweep.Sweep._measure_time", fail)
    data = write_dataset(tmp_path / "data", "red")
    words = [str(contrast_bundle), "--dataset", str(data), *QUICK]
    assert invoke(["bench", "sweep", *words, "--json", "-"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, sweep_schema())
    assert document["interrupted"]
    assert (len(document["points"]), document["failed"], document["planned"]) == (1, [], 2)
    assert "1 of 2 configurations" in printed.err
    assert printed.err.splitlines()[-1].startswith("foveate: internal error (ValueError: wrong)")


def test_an_interrupted_search_keeps_the_rates_that_were_tried(
    contrast_bundle: Path, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "record.json"
    words = ["bench", str(contrast_bundle), str(images / "0.png"), "--warm-up", "0"]
    words += ["--scenario", "server", "--p99", "60", "--rate", "400", "--json", str(file)]
    words += ["--threads", "1", "--top-k", "2"]
    command = [sys.executable, "-m", "foveate", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Trying ") and not line.startswith("Trying 400 "):
                process.send_signal(signal.SIGINT)  # at the start of the second rate
                break
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert f"interrupted: 1 rate tried, partial figures in {file}" in err
    assert "rates tried for a p99 of at most 60 s" in out
    assert "so far; the search was interrupted" in " ".join(out.split())
    record = document_of(file, record_schema())
    assert record["interrupted"]
    (trial,) = record["search"]["trials"]
    assert trial["rate"] == 400


class GpuLike(CpuDevice):
    """A device with memory of its own, which is not known any more when it is closed."""

    free = 1000
    is_closed = False

    def memory(self) -> tuple[int, int]:
        if self.free < 0:
            raise BackendError("the device is closed", remedy="open it again")
        return self.free, 1000

    def close(self) -> None:
        super().close()
        self.free = -1
        self.is_closed = True


def test_a_device_that_fails_after_it_was_opened_is_closed(
    contrast_bundle: Path, images: Path
) -> None:
    device = GpuLike()
    device.free = -1
    target = Target(
        bundle=str(contrast_bundle), device="cpu", backend="auto", options=PipelineOptions()
    )
    with pytest.raises(BackendError, match="the device is closed"):
        Session(
            target,
            [images / "0.png"],
            BenchOptions(),
            open_with=lambda *parts: (device, open_parts(*parts)[1]),
        )
    assert device.is_closed


def test_a_record_can_be_taken_after_the_device_was_closed(
    contrast_bundle: Path, images: Path
) -> None:
    """As an interruption does."""
    device = GpuLike()
    target = Target(
        bundle=str(contrast_bundle), device="cpu", backend="auto", options=PipelineOptions()
    )
    session = Session(
        target,
        [images / "0.png"],
        BenchOptions(count=8, warm_up=0),
        open_with=lambda *parts: (device, open_parts(*parts)[1]),
    )
    device.free = 400
    session.benchmark.run()
    session.close()
    record = session.record()
    assert record.outcome.images == 8
    assert record.resources.device_bytes == 600
