# SPDX-License-Identifier: Apache-2.0
"""The process that builds an engine: its job, its execution, and the explanation of failures."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from foveate.bundle.engine_key import ShapeRange
from foveate.errors import BackendError, BundleError, FoveateError, InputError, OptionError
from foveate.export.engines.options import CompileOptions
from foveate.export.engines.shapes import EngineSpec
from foveate.export.execution.stage_model import EXPORT_AGAIN
from foveate.progress import Progress, no_progress
from foveate.system.tensorrt import TARGETS


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """An engine to build; the process receives it as JSON.

    Args:
        name: Name of the engine, for progress.
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        stage: Name of the stage, for messages.
        onnx: Path of the ONNX file.
        plan: Path that the plan is written to.
        archs: Compute capabilities; ignored by a target that builds for the GPU of this machine.
        profiles: Range of each input's shape, one mapping per profile.
        options: Return value of ``CompileOptions.builder_options``.
        timing_cache: Path of the file of measured kernel times.
        plugins: Path of the plugin library.
        report: Whether the plan is loaded after the build to list its layers, which needs a driver.
    """

    name: str
    target: str
    stage: str
    onnx: str
    plan: str
    archs: tuple[str, ...]
    profiles: tuple[dict[str, ShapeRange], ...]
    options: dict[str, Any]
    timing_cache: str | None
    plugins: str | None
    report: bool

    def to_json(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(asdict(self))


def trtexec_command(
    engine: EngineSpec,
    onnx: Path,
    plan: Path,
    options: CompileOptions,
    archs: tuple[str, ...],
    plugins: Path | None,
) -> str:
    """Return the command of NVIDIA's own tool that builds the same engine, as one shell line."""
    target = TARGETS[options.target]
    words = [target.trtexec, f"--onnx={onnx}", f"--saveEngine={plan}", "--skipInference"]
    for number, profile in enumerate(engine.profiles):
        if len(engine.profiles) > 1:
            words.append(f"--profile={number}")
        for kind in ("minimum", "optimum", "maximum"):
            sides = {name: map(str, getattr(one, kind)) for name, one in profile.items()}
            shapes = ",".join(f"{name}:{'x'.join(one)}" for name, one in sides.items())
            words.append(f"--{kind[:3]}Shapes={shapes}")
    if target.cross:
        words.append("--computeCapabilities=" + ",".join(arch[3:] for arch in archs))
    if options.optimization_level != 3:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.workspace_mb is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mb}")
    level = {"ampere+": "ampere+", "same-compute-capability": "sameComputeCapability"}
    if options.hardware_compatibility in level:
        words.append(f"--hardwareCompatibilityLevel={level[options.hardware_compatibility]}")
    flags = {
        "--versionCompatible": options.version_compatible,
        "--stripWeights": options.strip_weights,
        "--refit": options.refit,
        "--noTF32": not options.tf32,
        # TensorRT 11 and TensorRT for RTX are always strongly typed; TensorRT 10 needs the flag.
        "--stronglyTyped": not target.cross,
    }
    words += [flag for flag, given in flags.items() if given]
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if plugins is not None:
        words.append(f"--dynamicPlugins={plugins}")
    return shlex.join([*words, "--profilingVerbosity=detailed"])


_GRACE_S = 10.0
"""Seconds that a build gets to stop by itself before it is killed."""
_COMMAND = (sys.executable, "-P", "-m", "foveate.export.engines.worker")
_KINDS = {kind.__name__: kind for kind in (BackendError, BundleError, OptionError)}


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
        raise _explain(job, event, status, _tail(errors))


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
        process.stdin.write(job.to_json() + "\n")
        process.stdin.flush()
    last: dict[str, Any] = {"event": "died"}
    for line in events:
        last = json.loads(line)
        if last["event"] == "progress":
            progress(job.name, last["done"], 100)
            # If no other event follows, the process died.
            last = {"event": "died"}
    return last


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


def _explain(job: BuildJob, event: dict[str, Any], status: int, errors: str) -> FoveateError:
    """Return the error for an event of the process."""
    stage, file, kind = f"the stage {job.stage!r}", job.onnx, event["event"]
    if kind == "foveate":
        error = _KINDS.get(event["kind"], FoveateError)
        return error(event["what"], file=file, remedy=event["remedy"])
    if kind == "write":
        what = f"the engine of {stage} cannot be written ({event['text']})"
        return InputError(what, file=Path(job.plan).parent, remedy=event["remedy"])
    if kind == "arch":
        what = f"{job.target} cannot build for {event['arch']}, expected one of "
        remedy = "on such a GPU itself: --target tensorrt"
        return OptionError(what + ", ".join(event["known"]), remedy=remedy)
    if kind == "parse":
        return _unparsed(job, event["nodes"])
    if kind == "died":
        word = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        what = f"{job.target} ended with {word} while it built {stage} ({errors or 'silently'})"
        return BackendError(what, file=file, remedy="run: foveate doctor")
    what = f"{job.target} cannot build {stage} ({event['text']})"
    return BackendError(what, file=file, remedy=_remedy(event["text"]))


def _unparsed(job: BuildJob, nodes: list[list[str]]) -> BundleError:
    operators = sorted({operator for operator, _, _ in nodes if operator}) or ["unknown operator"]
    words = "".join(f"{one or '?'} at {name or '?'}: {text}" for one, name, text in nodes[:1])
    what = f"{job.target} has no {', '.join(operators)} for the stage {job.stage!r} ({words})"
    return BundleError(what, file=job.onnx, remedy=EXPORT_AGAIN)


def _remedy(text: str) -> str:
    """Return the remedy for a failed build, from TensorRT's message."""
    # TensorRT counts activations as workspace, and reports a bound that is too small as out of memory.
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
