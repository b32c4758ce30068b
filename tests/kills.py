# SPDX-License-Identifier: Apache-2.0
"""Kill commands at random moments, and check the files that they leave.

After each SIGKILL every file under a final name must be complete, either the old or the new one.
After the next run that is not killed, the directory must contain the files of an undisturbed run,
and no others. Half of the kills happen at any moment of the run; the other half shortly after the
first change in the directory, while a file is being written::

    python -m tests.kills run --times 50 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tests.samples.paths import IMAGES
from tests.samples.training import NARROW, narrow_deepmask, write_dataset

from foveate.bundle import Bundle
from foveate.models.checkpoint import Cascade, CascadeInfo, load_checkpoint, save_checkpoint

FINISHED_EVERY = 5  # number of kills after which a run is not killed


@dataclass(frozen=True, kw_only=True)
class Target:
    """A command, its inputs, and the check of its outputs.

    Args:
        prepare: Writes the inputs of the command to a directory.
        words: Arguments of the command, which runs in that directory.
        check: Raises if a file under a final name in the directory is incomplete.
        fresh: Names of the outputs that are deleted after each finished run, since the command does
            nothing if they exist.
    """

    prepare: Callable[[Path], object]
    words: str
    check: Callable[[Path], None]
    fresh: tuple[str, ...] = ()


def _images(folder: Path) -> None:
    (folder / "images").mkdir()
    for file in sorted(IMAGES.glob("*.jpg"))[:3]:
        with Image.open(file) as image:
            image.resize((160, 120)).save(folder / "images" / file.name)


def _checkpoint(folder: Path) -> None:
    info = CascadeInfo(proposals="deepmask-resnet50", proposals_sizes=NARROW)
    save_checkpoint(folder / "net.safetensors", Cascade(info=info, proposals=narrow_deepmask()))


def _dataset(folder: Path) -> None:
    write_dataset(folder / "data", images=1)
    (folder / "data" / "train").rename(folder / "data" / "validation")


def _nothing(folder: Path) -> None:
    del folder


def _json(name: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        file = folder / name
        if file.exists():
            json.loads(file.read_text(encoding="utf-8"))
        for image in folder.glob("overlays/*.jpg"):
            Image.open(image).load()

    return check


def _bundle(folder: Path) -> None:
    if (folder / "bundle").exists():
        Bundle.open(folder / "bundle")


def _checkpoints(folder: Path) -> None:
    for file in folder.glob("run/*.safetensors"):
        load_checkpoint(file)


def _engines(folder: Path) -> None:
    from foveate.bundle.engine_metadata import read_metadata

    for plan in folder.glob("engines/**/*.plan"):
        read_metadata(plan)


TRAIN_MINI = (
    "train --dataset data --output run --views 2 --deepmask-steps 2 --sharpmask-steps 2 "
    "--multipathnet-steps 2"
)
TARGETS = {
    "run": Target(
        prepare=_images,
        words="run images --output overlays --json out.json",
        check=_json("out.json"),
    ),
    "export": Target(
        prepare=_checkpoint,
        words="export net.safetensors --output bundle --overwrite",
        check=_bundle,
    ),
    "evaluate": Target(
        prepare=_dataset,
        words="evaluate mini --proposals --dataset data --json out.json",
        check=_json("out.json"),
    ),
    "compile": Target(
        prepare=_nothing,
        words="compile mini --target tensorrt-rtx --arch sm_89 --stage refine --output engines",
        check=_engines,
        fresh=("engines", "cache"),
    ),
    "train": Target(
        prepare=lambda folder: write_dataset(folder / "data", 6),
        words=TRAIN_MINI,
        check=_checkpoints,
        fresh=("run",),
    ),
    "train-network": Target(
        prepare=lambda folder: write_dataset(folder / "data"),
        words="train --network deepmask-resnet50 --dataset data --output run --steps 4 --batch 2 "
        "--workers 0 --device cpu --checkpoint-every 1 "
        + " ".join(f"--size {name}={value}" for name, value in NARROW.items()),
        check=_checkpoints,
        fresh=("run",),
    ),
}


def kill(target: Target, *, times: int, seed: int, report: Callable[[str], None]) -> None:
    """Kill a command repeatedly, and check the files that it leaves.

    Args:
        target: The command.
        times: Number of kills.
        seed: Seed of the moments of the kills.
        report: Called with a line about the progress.

    Raises:
        AssertionError: A run that was not killed failed, or left other files than an undisturbed
            one.
        Exception: `Target.check` found an incomplete file.
    """
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as undisturbed, TemporaryDirectory() as killed:
        for folder in map(Path, (undisturbed, killed)):
            target.prepare(folder)
        began = time.monotonic()
        _finish(target, Path(undisturbed))
        seconds, expected = time.monotonic() - began, _listing(Path(undisturbed))
        report(f"an undisturbed run takes {seconds:.1f} s")
        folder = Path(killed)
        if not target.fresh:  # an output exists from the first kill on
            _finish(target, folder)
        for number in range(1, times + 1):
            with _start(target, folder) as process:  # which closes its output
                if rng.random() < 0.5:
                    time.sleep(rng.uniform(0, seconds))
                else:
                    _wait_for_change(folder, process)
                    time.sleep(rng.exponential(0.02))
                os.killpg(process.pid, signal.SIGKILL)
            target.check(folder)
            lost = set() if target.fresh else expected - _listing(folder)
            assert not lost, f"kill {number}: lost: {sorted(lost)}"
            if number % FINISHED_EVERY == 0 or number == times:
                _finish(target, folder)
                target.check(folder)
                left = _listing(folder) ^ expected
                assert not left, f"kill {number}: left behind or missing: {sorted(left)}"
                report(f"{number} kills, {number // FINISHED_EVERY} finished runs")
                _empty(target, folder)


def _start(target: Target, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "foveate", *target.words.split()],
        cwd=folder,
        env={**os.environ, "FOVEATE_CACHE": os.fspath(folder / "cache"), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finish(target: Target, folder: Path) -> None:
    process = _start(target, folder)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode(errors="replace")


def _wait_for_change(folder: Path, process: subprocess.Popen[bytes]) -> None:
    before = _stamps(folder)
    while process.poll() is None and _stamps(folder) == before:
        time.sleep(0.002)


def _stamps(folder: Path) -> dict[str, int]:
    stamps = {}
    for place, _, _ in os.walk(folder):
        try:
            stamps[place] = Path(place).stat().st_mtime_ns
        except FileNotFoundError:  # it has just been renamed
            stamps[place] = 0
    return stamps


def _listing(folder: Path) -> set[str]:
    """Return all files except for locks: deleting one could break the lock of another process."""
    found = {os.fspath(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in found if not name.endswith(".lock") and "/board/" not in name}


def _empty(target: Target, folder: Path) -> None:
    for name in target.fresh:
        for file in sorted((folder / name).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        if (folder / name).exists():
            (folder / name).rmdir()


def main() -> None:
    """Kill the named commands, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("commands", nargs="+", choices=sorted(TARGETS))
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.commands:
        report = partial(print, f"{name}:", flush=True)
        kill(TARGETS[name], times=given.times, seed=given.seed, report=report)


if __name__ == "__main__":
    main()
