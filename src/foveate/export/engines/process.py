# SPDX-License-Identifier: Apache-2.0
"""Running the process that builds an engine, and saying in one line why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from foveate.errors import BackendError, BundleError, FoveateError, InputError, OptionError
from foveate.export.engines.request import BuildRequest

_GRACE_S = 10.0
"""What a build gets to stop by itself before it is killed."""
_COMMAND = (sys.executable, "-P", "-m", "foveate.export.engines.worker")
_KINDS = {kind.__name__: kind for kind in (BackendError, BundleError, OptionError)}


def run_build(request: BuildRequest, progress: Callable[[int], None] | None) -> dict[str, Any]:
    """Build an engine in a process of its own.

    Args:
        request: what to build; the plan is written to its place.
        progress: is told the share that is done, in percent.

    Returns:
        ``size`` of the plan in bytes, ``dispatch`` and ``layers`` as in an `EngineMetadata`.

    Raises:
        FoveateError: The build failed, or the process died. The plan may be half-written then.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as events, tempfile.TemporaryFile("w+") as errors:
        try:
            process = _start(writing, errors)
        finally:
            os.close(writing)
        try:
            event = _listen(process, request, events, progress)
        except BaseException:
            _abandon(process)
            raise
        process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        status = process.wait()
        if event["event"] == "done":
            return event
        raise _explain(request, event, status, _tail(errors))


def _start(writing: int, errors: IO[str]) -> subprocess.Popen[str]:
    # A session of its own: Ctrl-C on the terminal reaches this process only, which then tells it.
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
    process: subprocess.Popen[str],
    request: BuildRequest,
    events: IO[str],
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once: its status says why
        process.stdin.write(request.to_json() + "\n")
        process.stdin.flush()
    last: dict[str, Any] = {"event": "died"}
    for line in events:
        last = json.loads(line)
        if last["event"] == "progress":
            if progress is not None:
                progress(last["done"])
            last = {"event": "died"}
    return last


def _abandon(process: subprocess.Popen[str]) -> None:
    """Ask the process to stop, by closing its input, and make sure that it has."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _explain(
    request: BuildRequest, event: dict[str, Any], status: int, errors: str
) -> FoveateError:
    """Return the error that an event means."""
    stage, file, kind = f"the stage {request.stage!r}", request.onnx, event["event"]
    if kind == "foveate":
        return _KINDS.get(event["kind"], FoveateError)(
            event["what"], file=file, remedy=event["remedy"]
        )
    if kind == "write":
        what = f"the engine of {stage} cannot be written ({event['text']})"
        remedy = "free some space, with 'foveate cache prune' or a --cache elsewhere"
        return InputError(what, file=Path(request.plan).parent, remedy=remedy)
    if kind == "arch":
        what = f"{request.target} cannot build for {event['arch']}, expected one of "
        remedy = "on such a GPU itself: --target tensorrt"
        return OptionError(what + ", ".join(event["known"]), remedy=remedy)
    if kind == "parse":
        return _unparsed(request, event["nodes"])
    if kind == "died":
        word = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        what = f"{request.target} ended with {word} while it built {stage} ({errors or 'silently'})"
        return BackendError(what, file=file, remedy="run: foveate doctor")
    what = f"{request.target} cannot build {stage} ({event['text']})"
    return BackendError(what, file=file, remedy=_remedy(event["text"]))


def _unparsed(request: BuildRequest, nodes: list[list[str]]) -> BundleError:
    operators = sorted({operator for operator, _, _ in nodes if operator}) or ["unknown operator"]
    words = "; ".join(
        f"{operator or '?'} at {name or '?'}: {text}" for operator, name, text in nodes[:1]
    )
    return BundleError(
        f"{request.target} has no {', '.join(operators)} for the stage {request.stage!r} ({words})",
        file=request.onnx,
        remedy="export the bundle again: foveate export CHECKPOINT --output BUNDLE",
    )


def _remedy(text: str) -> str:
    """Say what mends a failed build, going by TensorRT's words."""
    # It counts activations as workspace, and calls a bound that is too small a lack of memory.
    if "workspace limit" in text or "OutOfMemory" in text:
        return "allow it more memory: --workspace"
    if "Turing" in text:
        return "omit sm_75, or export with --precision fp16"
    if "cuda" in text.lower():
        return "build on a machine with an NVIDIA driver"
    return "run it again with another --optimization-level, or report it with this line"


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1][:300] if lines else ""
