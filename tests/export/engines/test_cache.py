# SPDX-License-Identifier: Apache-2.0
"""The cache of engines: hits, reasons for misses, damaged engines, and waiting processes."""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.samples.compiling import KEY, key_with, needs_rtx, record_of

from foveate.bundle.engine_key import EngineKey, ShapeRange
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.errors import BackendError, InputError, OptionError
from foveate.export.engines import EngineCache
from foveate.kernels.build import CodeCache

PLAN = b"plan" * 256
OTHER_SHAPE = {"boxes": ShapeRange(minimum=(1, 4), optimum=(2, 4), maximum=(3, 4))}


def building(
    key: EngineKey, calls: list[EngineKey], plan: bytes = PLAN
) -> Callable[[Path], EngineMetadata]:
    def build(path: Path) -> EngineMetadata:
        calls.append(key)
        path.write_bytes(plan)
        return record_of(key, plan)

    return build


def obtain(cache: EngineCache, key: EngineKey, calls: list[EngineKey]) -> str | None:
    with cache.obtain(key, building(key, calls)) as (plan, record, why):
        assert plan.read_bytes() == PLAN
        assert record.key == key
        return why


def test_the_second_time_an_engine_is_not_built(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    assert obtain(cache, KEY, calls) == "no such engine was built before"
    assert obtain(cache, KEY, calls) is None
    assert calls == [KEY]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"onnx": "b" * 64}, "onnx: aaaaaaaaaaaa... became bbbbbbbbbbbb..."),
        ({"plugins": "c" * 64}, "plugins: None became cccccccccccc..."),
        ({"tensorrt": "1.8.0"}, "tensorrt: 1.7.1.116 became 1.8.0"),
        ({"cuda": "12"}, "cuda: 13 became 12"),
        ({"archs": ("sm_120",)}, "archs: sm_86 sm_89 became sm_120"),
        ({"options": {"optimization_level": 5}}, "option optimization_level: 3 became 5"),
        ({"options": {"optimization_level": 3, "refit": True}}, "option refit: None became True"),
        (
            {"profiles": (OTHER_SHAPE,)},
            "profiles: boxes 1x4..64x4, boxes 100x4..100x4 became boxes 1x4..3x4",
        ),
        ({"stage": "classify"}, "no such engine was built before"),
        ({"target": "tensorrt"}, "no such engine was built before"),
    ],
)
def test_every_part_of_the_key_counts_and_a_miss_names_it(
    change: dict[str, object], why: str, tmp_path: Path
) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    obtain(cache, KEY, calls)
    assert cache.explain_miss(KEY) is None
    assert cache.explain_miss(key_with(**change)) == why
    assert obtain(cache, key_with(**change), calls) == why
    assert len(calls) == 2


def test_a_miss_is_explained_by_the_nearest_engine(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    for key in (key_with(onnx="b" * 64, cuda="12", archs=("sm_75",)), key_with(cuda="12")):
        obtain(cache, key, calls)
    assert cache.explain_miss(KEY) == "cuda: 12 became 13"


@pytest.mark.parametrize("damage", ["plan", "record", "no record", "other key"])
def test_a_damaged_entry_is_found_and_built_again(damage: str, tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    obtain(cache, KEY, calls)
    folder = tmp_path / KEY.digest()
    if damage == "plan":
        (folder / "engine.plan").write_bytes(PLAN[:-1] + b"x")
    elif damage == "record":
        (folder / "engine.json").write_text("{")
    elif damage == "no record":
        (folder / "engine.json").unlink()
    else:
        (folder / "engine.json").write_text(record_of(key_with(cuda="12"), PLAN).to_json())
    why = obtain(cache, KEY, calls)
    assert why is not None
    assert why.startswith("the cached engine was damaged (")
    assert calls == [KEY, KEY]
    assert obtain(cache, KEY, calls) is None


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> EngineMetadata:
        path.write_bytes(b"half")
        raise BackendError("no kernel")

    with pytest.raises(BackendError, match="no kernel"), EngineCache(tmp_path).obtain(KEY, fail):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [f"{KEY.digest()}.lock"]


def test_the_least_recently_used_engines_go_first(tmp_path: Path) -> None:
    keys = [key_with(cuda=str(number)) for number in range(4)]
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    for age, key in enumerate(keys):
        obtain(cache, key, calls)
        os.utime(tmp_path / key.digest(), (1000 + age, 1000 + age))
    obtain(cache, keys[0], calls)  # used now, so the oldest no more
    size = cache.entries()[0].size
    deleted = cache.prune(2 * size)
    assert [entry.record.key for entry in deleted] == [keys[1], keys[2]]
    assert {entry.record.key.cuda for entry in cache.entries()} == {"0", "3"}


def test_the_cache_stays_within_its_bound_by_itself(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path, max_bytes=2 * len(PLAN) + 3000), list[EngineKey]()
    for number in range(6):
        obtain(cache, key_with(cuda=str(number)), calls)
    assert sum(entry.size for entry in cache.entries()) <= cache.max_bytes
    assert "5" in {entry.record.key.cuda for entry in cache.entries()}


def test_the_newest_engine_stays_even_if_it_is_larger_than_the_bound(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path, max_bytes=1), list[EngineKey]()
    obtain(cache, KEY, calls)
    obtain(cache, key_with(cuda="12"), calls)
    assert [entry.record.key.cuda for entry in cache.entries()] == ["12"]


def test_an_engine_in_use_is_not_deleted(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    with cache.obtain(KEY, building(KEY, calls)) as (plan, _, _):
        assert cache.prune(0) == []
        assert plan.read_bytes() == PLAN
    assert len(cache.prune(0)) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_taken_away(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    for key in (KEY, key_with(cuda="12")):
        left = tmp_path / f".{key.digest()}.0.partial"
        left.mkdir()
        (left / "engine.plan").write_bytes(b"half")
    assert cache.entries() == []
    assert obtain(cache, KEY, calls) == "no such engine was built before"
    names = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert names == {KEY.digest()}


def test_an_entry_with_a_damaged_record_does_not_stay_for_ever(tmp_path: Path) -> None:
    cache, calls = EngineCache(tmp_path), list[EngineKey]()
    obtain(cache, KEY, calls)
    (tmp_path / KEY.digest() / "engine.json").write_text("{")
    assert cache.prune() == []
    assert not (tmp_path / KEY.digest()).exists()


def test_a_negative_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="must not be negative, found -1"):
        EngineCache(tmp_path, max_bytes=-1)


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(InputError) as caught, EngineCache(file).obtain(KEY, building(KEY, [])):
        pass
    assert str(caught.value) == (
        f"the engine cache cannot be written (File exists): {file}: choose another --cache"
    )


BUILD_SLOWLY = """
import os, sys, time
from pathlib import Path
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.export.engines import EngineCache
from foveate.kernels.build import CodeCache
record = EngineMetadata.from_json(Path("record.json").read_text())
def build(plan):
    Path("built", str(os.getpid())).touch()
    time.sleep(0.5)
    plan.write_bytes(b"plan" * 256)
    return record
with EngineCache(Path("cache")).obtain(record.key, build) as (plan, _, _):
    assert plan.read_bytes() == b"plan" * 256
"""


def test_who_waits_for_an_engine_is_told_again_after_its_lock_was_replaced(tmp_path: Path) -> None:
    """As by a process that prunes, between the opening and the locking of the file."""
    cache, told = EngineCache(tmp_path), queue.Queue[None]()
    lock = tmp_path / f"{KEY.digest()}.lock"

    def wait() -> str | None:
        with cache.obtain(KEY, building(KEY, []), lambda: told.put(None)) as (_, _, why):
            return why

    with ThreadPoolExecutor(1) as pool, lock.open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        waiting = pool.submit(wait)
        told.get(timeout=10)
        lock.unlink()
        with lock.open("a") as second:
            fcntl.flock(second, fcntl.LOCK_EX)
            first.close()
            told.get(timeout=10)
            assert not waiting.done()
        assert waiting.result(10) == "no such engine was built before"


def test_four_processes_build_an_engine_once(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "record.json").write_text(record_of(KEY, PLAN).to_json())
    command = [sys.executable, "-P", "-c", BUILD_SLOWLY]
    processes = [subprocess.Popen(command, cwd=tmp_path) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(list((tmp_path / "built").iterdir())) == 1


BUILD_HALF = BUILD_SLOWLY.replace("    time.sleep(0.5)\n", "").replace(
    'plan.write_bytes(b"plan" * 256)',
    'plan.write_bytes(b"half"); Path("half").touch(); time.sleep(600)',
)


def test_a_process_that_is_killed_in_the_middle_leaves_a_usable_cache(tmp_path: Path) -> None:
    """The waiting process builds the engine, and the files of the dead process are deleted."""
    (tmp_path / "built").mkdir()
    (tmp_path / "record.json").write_text(record_of(KEY, PLAN).to_json())

    def start(script: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-P", "-c", script], cwd=tmp_path)

    killed = start(BUILD_HALF)
    for _ in range(1200):
        if (tmp_path / "half").exists():
            break
        time.sleep(0.05)
    waiting = start(BUILD_SLOWLY)
    killed.kill()
    assert killed.wait(60) == -signal.SIGKILL
    assert waiting.wait(60) == 0
    cache, calls = EngineCache(tmp_path / "cache"), list[EngineKey]()
    assert [entry.record.key for entry in cache.entries()] == [KEY]
    assert obtain(cache, KEY, calls) is None
    assert sorted(path.name for path in cache.root.iterdir() if path.is_dir()) == [KEY.digest()]


@needs_rtx
def test_two_commands_that_want_the_same_engine_do_the_work_once(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[str]:
        words = ["compile", "mini", "--target", "tensorrt-rtx", "--stage", "refine"]
        words += ["--arch", "sm_89", "--bucket", "2", "--cache", str(tmp_path / "cache")]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "foveate", *words, "--output", str(tmp_path / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    results = [process.communicate(timeout=120) for process in [start("one"), start("two")]]
    ends = sorted(out.rstrip().endswith("from the cache") for out, _ in results)
    assert ends == [False, True], results
    plans = [(tmp_path / name / "refine-k2.plan").read_bytes() for name in ("one", "two")]
    assert plans[0] == plans[1]


def test_pruning_engines_leaves_kernels_under_the_same_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    kernels, engines = CodeCache.of_user(), EngineCache()
    kernels.get("key", "ptx", lambda path: str(path.write_text("code")))
    obtain(engines, KEY, [])
    assert len(engines.prune(0)) == 1
    assert list(engines.root.iterdir()) == []
    assert kernels.find("key", "ptx") is not None
    kernels.get("other", "ptx", lambda path: str(path.write_text("code")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engines", "kernels"]


def test_pruning_deletes_nothing_that_is_not_ours(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    obtain(cache, KEY, [])
    for name in ("photographs", ".new-folder", "a" * 63, "x.lock"):
        (tmp_path / name).mkdir()
    for name in ("b" * 64, f".{'c' * 64}.0.partial"):
        (tmp_path / name).mkdir()  # what a killed process leaves, with a lock
    for name in ("b" * 64, "c" * 64, "d" * 64):
        (tmp_path / f"{name}.lock").touch()
    cache.prune(0)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".new-folder", "a" * 63, "photographs", "x.lock"]


def test_an_engine_belongs_to_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        obtain(EngineCache(tmp_path / "cache"), KEY, [])
    finally:
        os.umask(before)
    folder = tmp_path / "cache" / KEY.digest()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_a_cache_that_others_may_write_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    calls: list[EngineKey] = []
    with pytest.raises(BackendError, match="other users could change it: .*shared: run: chmod"):
        obtain(EngineCache(tmp_path / "shared"), KEY, calls)
    assert calls == []


@pytest.mark.parametrize("name", ["engine.plan", "engine.json"])
def test_an_engine_that_others_could_have_changed_is_refused(tmp_path: Path, name: str) -> None:
    cache = EngineCache(tmp_path)
    before = os.umask(0)
    try:
        obtain(cache, KEY, [])
    finally:
        os.umask(before)
    assert obtain(cache, KEY, []) is None
    (tmp_path / KEY.digest() / name).chmod(0o666)
    with pytest.raises(BackendError, match="other users could change it"):
        obtain(cache, KEY, [])
