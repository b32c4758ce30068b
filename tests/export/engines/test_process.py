# SPDX-License-Identifier: Apache-2.0
"""The process of a build: stopping it, and the message if it dies."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.samples.compiling import needs_rtx, refine_options

from foveate.bundle import Bundle
from foveate.errors import BackendError, InputError
from foveate.export.engines import EngineCache, compile_bundle, process, worker

COMMAND = ["compile", "mini", "--target", "tensorrt-rtx", "--arch", "sm_89", "--stage", "propose"]


def start(folder: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    places = ["--cache", str(folder / "cache"), "--output", str(folder / "engines")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "foveate", *COMMAND, *places, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def left_in(folder: Path) -> list[str]:
    """Return the files that are not locks, with their directories."""
    found = [path for path in folder.rglob("*") if path.suffix != ".lock"]
    return sorted(str(path.relative_to(folder)) for path in found if path.is_file())


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(word) for word in text.split()]


@needs_rtx
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_compilation_leaves_no_process_and_no_engine(
    ending: signal.Signals, tmp_path: Path
) -> None:
    compiling = start(tmp_path)
    assert compiling.stderr is not None
    assert compiling.stderr.readline() == "propose: 0 of 100\n"
    (child,) = children(compiling.pid)
    compiling.send_signal(ending)
    compiling.communicate(timeout=60)
    assert compiling.returncode != 0
    for _ in range(600):
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the build goes on")
    assert not list(tmp_path.glob("engines/*"))
    if ending is signal.SIGINT:
        assert left_in(tmp_path / "cache") == []
    # What was killed leaves no entry, and nothing that keeps the next one waiting.
    assert EngineCache(tmp_path / "cache").entries() == []


@needs_rtx
def test_a_build_that_is_not_wanted_any_more_stops_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The progress monitor stops the build, so that the process is not killed."""
    reported: list[int] = []

    def interrupt(_: str, percent: int, *_others: object) -> None:
        reported.append(percent)
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "_GRACE_S", 300.0)
    monkeypatch.delattr(subprocess.Popen, "kill")
    outcomes = compile_bundle(
        Bundle.open("mini"),
        refine_options(stages=("propose",), buckets=()),
        EngineCache(tmp_path / "cache"),
        output=tmp_path / "engines",
        progress=interrupt,
    )
    with pytest.raises(KeyboardInterrupt):
        list(outcomes)
    assert reported == [0]
    assert left_in(tmp_path) == []


@needs_rtx
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files makes a write fail as a full disk does."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    compiling = start(tmp_path, preexec_fn=bound)
    _, errors = compiling.communicate(timeout=300)
    assert compiling.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("foveate: the engine of the stage 'propose' cannot be written (File too")
    assert last.endswith(": free some space with 'foveate cache prune', or choose another --cache")
    assert left_in(tmp_path) == []


@needs_rtx
def test_an_engine_that_does_not_fit_its_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"")
    outcomes = compile_bundle(
        Bundle.open("mini"),
        refine_options(),
        EngineCache(tmp_path / "cache"),
        output=tmp_path / "engines",
    )
    with pytest.raises(InputError, match="cannot be written .Not a directory.: .*refine-k2.plan: "):
        list(outcomes)


@needs_rtx
def test_an_engine_gets_its_name_after_its_record(tmp_path: Path) -> None:
    (tmp_path / "engines" / "refine-k2.json").mkdir(parents=True)
    cache = EngineCache(tmp_path / "cache")
    outcomes = compile_bundle(
        Bundle.open("mini"), refine_options(), cache, output=tmp_path / "engines"
    )
    with pytest.raises(InputError, match="cannot be written .Is a directory.: .*refine-k2.json: "):
        list(outcomes)
    assert [path.name for path in (tmp_path / "engines").iterdir()] == ["refine-k2.json"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import os; os.abort()", "ended with signal SIGABRT while it built the stage 'refine'"),
        ("raise SystemExit(3)", "ended with status 3 while it built the stage 'refine' (silently)"),
        ("raise ValueError('odd')", "status 1 while it built the stage 'refine' (ValueError: odd)"),
    ],
)
def test_a_process_that_dies_is_one_line(
    code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX aborts its process when it loads a plugin."""
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-P", "-c", code])
    outcomes = compile_bundle(
        Bundle.open("mini"), refine_options(), EngineCache(tmp_path), output=tmp_path / "engines"
    )
    with pytest.raises(BackendError) as caught:
        list(outcomes)
    assert text in str(caught.value)
    assert caught.value.remedy == "run: foveate doctor"
    assert left_in(tmp_path) == []


def test_nested_phases_are_one_percentage_that_only_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_abandoned", lambda: False)
    events = io.StringIO()
    monitor = worker.make_monitor(SimpleNamespace(IProgressMonitor=object), events)
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0)
    monitor.phase_start("graph", "build", 2)
    monitor.phase_start("tactics", "graph", 4)
    for number in range(4):
        assert monitor.step_complete("tactics", number)
    monitor.phase_finish("tactics")
    monitor.phase_start("early", "graph", 5)
    assert monitor.step_complete("early", 0)  # its parent has not finished the step before
    monitor.phase_finish("early")
    assert monitor.step_complete("graph", 0)
    monitor.phase_start("again", "graph", 8)
    assert monitor.step_complete("again", 0)
    monitor.phase_finish("again")
    assert monitor.step_complete("graph", 1)
    assert monitor.step_complete("build", 1)
    written = [json.loads(line)["done"] for line in events.getvalue().splitlines()]
    assert written == [50, 56, 62, 68, 75, 78, 100]


def test_ci_has_tensorrt_for_rtx() -> None:
    if "CI" not in os.environ:
        pytest.skip("needs CI, where the tests above must not be skipped")
    assert find_spec("tensorrt_rtx") is not None
