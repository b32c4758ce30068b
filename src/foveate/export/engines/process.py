# SPDX-License-Identifier: Apache-2.0
"""The process that builds an engine: its job, its execution, and its failures."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import IO, Any

import foveate.errors
from foveate.bundle.engine_key import EngineKey
from foveate.errors import BackendError
from foveate.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """An engine to build; the process receives it as JSON.

    Args:
        name: Name of the engine, for progress.
        key: Key of the engine.
        onnx: Path of the ONNX file.
        plan: Path that the plan is written to.
        timing_cache: Path of the file of measured kernel times.
        plugins: Path of the plugin library.
        report: Whether the plan is loaded after the build to list its layers, which needs a driver.
    """

    name: str
    key: EngineKey
    onnx: str
    plan: str
    timing_cache: str | None
    plugins: str | None
    report: bool


_GRACE_S = 10.0
"""Seconds that a build gets to stop by itself before it is killed."""
_COMMAND = (sys.executable, "-P", "-m", "foveate.export.engines.worker")


def run_build(job: BuildJob, progress: Progress = no_progress) -> dict[str, Any]:
    """Build an engine in a process of its own.

    Args:
        job: Engine to build. Its plan is written.
        progress: Called with the name of the engine and the percentage that is done.

    Returns:
        ``size`` of the plan in bytes, ``dispatch`` and ``layers`` as in an ``EngineMetadata``.

    Raises:
        FoveateError: The build failed, or the process died. The plan may be incomplete then.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as events, tempfile.TemporaryFile("w+") as errors:
        try:
            process = _start(writing, errors)
        finally:
            os.close(writing)
        try:
            event = _listen(process, job, events, progress)
        except BaseException:
            _abandon(process)
            raise
        assert process.stdin is not None
        process.stdin.close()
        status = process.wait()
        if event["event"] == "done":
            return event
        if event["event"] == "failed":
            kind = getattr(foveate.errors, event["kind"])
            raise kind(event["what"], file=event["file"], remedy=event["remedy"])
        ending = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        raise BackendError(
            f"{job.key.target} ended with {ending} while it built the stage "
            f"{job.key.stage!r} ({_tail(errors) or 'silently'})",
            file=job.onnx,
            remedy="run: foveate doctor",
        )


def _start(writing: int, errors: IO[str]) -> subprocess.Popen[str]:
    # A session of its own: Ctrl-C on the terminal reaches this process only, which then stops it.
    return subprocess.Popen(
        [*_COMMAND, str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(writing,),
        start_new_session=True,
        text=True,
    )


def _listen(
    process: subprocess.Popen[str], job: BuildJob, events: IO[str], progress: Progress
) -> dict[str, Any]:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit status is reported
        process.stdin.write(json.dumps(asdict(job)) + "\n")
        process.stdin.flush()
    for line in events:
        event: dict[str, Any] = json.loads(line)
        if event["event"] != "progress":
            return event
        progress(job.name, event["done"], 100)
    return {"event": "died"}


def _abandon(process: subprocess.Popen[str]) -> None:
    """Stop the process by closing its input, and kill it if it does not stop."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1][:300] if lines else ""
