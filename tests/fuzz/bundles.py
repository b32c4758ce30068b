# SPDX-License-Identifier: Apache-2.0
"""Damaged bundles: manifests, stages with a correct checksum, and files of another kind."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.conftest import write_contrast_bundle
from tests.fuzz.harness import Campaign
from tests.fuzz.wrong_values import random_change

STAGES = ("propose", "refine", "features", "classify")


@cache
def _whole() -> dict[str, bytes]:
    """Return the files of a small bundle whose stages run in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_contrast_bundle(Path(folder) / "whole")
        return {path.name: path.read_bytes() for path in root.iterdir()}


def _write(folder: Path, manifest: Any, files: dict[str, bytes]) -> Path:
    root = folder / "bundle"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (root / "manifest.json").write_bytes(text)
    return root


def _parts() -> tuple[Any, dict[str, bytes]]:
    files = dict(_whole())
    return json.loads(files.pop("manifest.json")), files


def change_fields(rng: np.random.Generator, folder: Path) -> Path:
    """Replace up to three fields of the manifest."""
    manifest, files = _parts()
    changed = copy.deepcopy(manifest)
    for _ in range(rng.integers(1, 4)):
        if isinstance(changed, dict) and changed:
            changed = random_change(changed, rng)
    return _write(folder, changed, files)


def change_text(rng: np.random.Generator, folder: Path) -> Path:
    """Change bytes of the manifest."""
    manifest, files = _parts()
    return _write(folder, _damaged(json.dumps(manifest).encode(), rng), files)


def change_stage(rng: np.random.Generator, folder: Path) -> Path:
    """Change bytes of a stage, and update its checksum."""
    manifest, files = _parts()
    name = f"{rng.choice(STAGES)}.onnx"
    files[name] = _damaged(files[name], rng)
    digest = hashlib.sha256(files[name]).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(files[name])}
    return _write(folder, manifest, files)


def change_files(rng: np.random.Generator, folder: Path) -> Path:
    """Replace a file by a link, a directory, a pipe or a file of another size, or add a file."""
    manifest, files = _parts()
    root = _write(folder, manifest, files)
    path = root / str(rng.choice([*files, "manifest.json"]))
    kind = rng.integers(9)
    if kind == 8:  # a file that is not listed
        (root / "more.onnx").write_bytes(b"")
        return root
    if kind == 7:
        with path.open("r+b") as stream:
            stream.truncate(int(rng.choice([1 << 40, 0, 10])))
        return root
    path.rename(folder / "moved")
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to(folder / "moved")
    elif kind == 4:
        path.symlink_to("/dev/zero")
    elif kind == 5:
        path.symlink_to(str(rng.choice(list(files))))
    return root


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        start = int(rng.integers(len(changed) + 1))
        kind = rng.integers(4)
        if kind == 0 and start < len(changed):
            changed[start] = int(rng.integers(256))
        elif kind == 1:
            del changed[start : start + int(rng.choice([1, 4, 1000]))]
        elif kind == 2:
            changed[start:start] = changed[start : start + int(rng.choice([1, 16, 1000]))]
        elif start < len(changed):
            changed[start] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def use(path: Path) -> None:
    """Open a bundle, load it, and run it on a small image."""
    import foveate
    from foveate.bundle import Bundle

    Bundle.open(path)
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, 20:50, 1] = 255
    with foveate.load(path, options=foveate.PipelineOptions(threads=1)) as pipeline:
        if "classify" in pipeline.engines:
            pipeline(image)
        else:
            pipeline.propose(image)
    shutil.rmtree(path, ignore_errors=True)


CAMPAIGNS = tuple(
    Campaign(name=make.__name__, make=make, use=use)
    for make in (change_fields, change_text, change_stage, change_files)
)
