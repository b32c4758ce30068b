# SPDX-License-Identifier: Apache-2.0
"""The example for data sets, with real Ray: killed and continued."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import pytest
from tests.samples.paths import IMAGES
from tests.samples.ray_cluster import RayCluster, wait_until

import foveate

EXAMPLE = "examples/ray_batch.py"
READ_RECORDS = """
import json, sys
from pyarrow import parquet
print(json.dumps(parquet.read_table(sys.argv[1] + "/parts").to_pylist()))
"""
READ_MANIFESTS = """
import json, runpy, sys
from pathlib import Path
from pyarrow import csv, parquet
folder = Path(sys.argv[2])
parquet.write_table(csv.read_csv(folder / "images.csv"), folder / "images.parquet")
read_manifest = runpy.run_path(sys.argv[1])["read_manifest"]
files = [folder / f"images.{kind}" for kind in ("txt", "csv", "parquet")]
print(json.dumps([read_manifest(file) for file in files]))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Sixty small images, all different."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for source in sorted(IMAGES.glob("*.jpg")):
        pixels = cv2.imread(str(source))
        assert pixels is not None
        for number in range(12):
            small = cv2.resize(pixels[8 * number :], (96 + 2 * number, 72))
            files.append(str(folder / f"{source.stem}-{number}.png"))
            assert cv2.imwrite(files[-1], small)
    return files


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_has_one_record_per_image(
    ray_cluster: RayCluster, images: list[str], tmp_path: Path
) -> None:
    bad = [str(tmp_path / "missing.jpg"), str(tmp_path / "text.png")]
    Path(bad[1]).write_text("no image", encoding="utf-8")
    manifest, output = tmp_path / "images.txt", tmp_path / "found"
    lines = [*images[:30], *bad, *images[30:], images[7]]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = (EXAMPLE, str(manifest), str(output), "--part", "2")

    driver = ray_cluster.start(*words)
    wait_until(lambda: len(parts(output)) >= 2 or driver.poll() is not None)
    workers = ray_cluster.processes("ray::MapWorker")
    assert len(workers) == 2, ray_cluster.log.read_text(encoding="utf-8")
    os.kill(workers[0], signal.SIGKILL)
    count = len(parts(output))
    wait_until(lambda: len(parts(output)) >= count + 2)
    ray_cluster.kill()
    assert driver.wait() != 0
    complete = parts(output)
    assert len(complete) < 31
    (output / "parts" / ".0123.torn").write_text(
        "PAR1", encoding="utf-8"
    )  # what a killed worker leaves

    log = ray_cluster.run(*words)
    assert "2 bad" in log
    after = parts(output)
    assert {name: after[name] for name in complete} == complete
    assert list((output / "parts").glob(".*")) == []
    records = json.loads(ray_cluster.run("-c", READ_RECORDS, str(output)))
    assert sorted(record["image"] for record in records) == sorted(images)
    rows = (output / "bad.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == '"image","error"'
    assert [row.split(",")[0].strip('"') for row in rows[1:]] == bad
    assert "there is no such file" in rows[1]
    assert_same_objects(records, images[::20])


def parts(output: Path) -> dict[str, int]:
    """Return when each part was written, by its name."""
    return {file.name: file.stat().st_mtime_ns for file in (output / "parts").glob("*.parquet")}


def assert_same_objects(records: list[dict[str, Any]], images: list[str]) -> None:
    found = {record["image"]: record["annotations"] for record in records}
    with foveate.load("mini", options=foveate.PipelineOptions(threads=1)) as pipeline:
        for image in images:
            detections = pipeline(image)
            expected = [
                {"name": name, **entry}
                for name, entry in zip(detections.names, detections.to_coco(0), strict=True)
            ]
            for entry in expected:
                del entry["image_id"]
            assert found[image] == expected
    assert any(found[image] for image in images)


@pytest.mark.slow
def test_manifests_are_text_csv_or_parquet(ray_cluster: RayCluster, tmp_path: Path) -> None:
    names = ["/data/a b.jpg", "/data/c,d.jpg"]
    (tmp_path / "images.txt").write_text("\n".join(names), encoding="utf-8")
    rows = ["id,image", *(f'{n},"{name}"' for n, name in enumerate(names))]
    (tmp_path / "images.csv").write_text("\n".join(rows), encoding="utf-8")
    read = ray_cluster.run("-c", READ_MANIFESTS, EXAMPLE, str(tmp_path))
    assert json.loads(read.splitlines()[-1]) == [names] * 3
