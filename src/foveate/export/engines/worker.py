# SPDX-License-Identifier: Apache-2.0
"""The process that builds one engine, so that an abort of TensorRT does not end the parent.

It reads a ``BuildJob`` from its first line of input and writes events, one JSON object per line, to the
file descriptor in its argument. It stops when its input ends, which means that the parent was
interrupted or is gone.
"""

import json
import os
import select
import sys
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import onnx
from onnx import inliner

from foveate.bundle.schema import parse
from foveate.errors import BackendError, BundleError, FoveateError, InputError, OptionError
from foveate.export.engines.plugins import choose
from foveate.export.engines.process import BuildJob
from foveate.export.engines.turing import TURING, float32_inputs, gemms_as_convolutions
from foveate.export.execution.stage_model import EXPORT_AGAIN, custom_ops, signed_codes
from foveate.system.files import write_file
from foveate.system.resources import remedy_of
from foveate.system.tensorrt import TARGETS


def make_monitor(trt: Any, events: IO[str]) -> Any:
    """Return a monitor that writes each percent, and stops the build when standard input ends."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module is chosen at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            # Parent, finished steps and steps of each phase.
            self.phases: dict[str, tuple[str, int, int]] = {}
            self.written = -1

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent or "", 0, steps)

        def step_complete(self, name: str, step: int) -> bool:
            parent, _, steps = self.phases[name]
            self.phases[name] = (parent, step + 1, steps)
            # A phase runs within a step of its parent, whose share it adds to.
            share, here = 0.0, name
            while here in self.phases:
                here, done, steps = self.phases[here]
                share = min(1.0, (done + share) / max(1, steps))
            percent = int(100 * share)
            try:
                if percent > self.written:
                    self.written = percent
                    events.write(json.dumps({"event": "progress", "done": percent}) + "\n")
            except OSError:  # the parent is gone; an exception must not reach TensorRT
                return False
            return not _abandoned()

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

    return Monitor()


def _abandoned() -> bool:
    """Return whether standard input has ended; it has no content after the job."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main() -> None:
    """Build the engine that standard input describes."""
    # Line-buffered, so that the parent receives each event at once.
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1) as events:
        job = parse(BuildJob, json.loads(sys.stdin.readline()))
        try:
            result = _Build(job, events).run()
            events.write(json.dumps({"event": "progress", "done": 100}) + "\n")
            event = {"event": "done", **result}
        except FoveateError as error:
            file = None if isinstance(error, OptionError) else error.file or job.onnx
            event = {
                "event": "failed",
                "kind": type(error).__name__,
                "what": error.what,
                "file": file,
                "remedy": error.remedy,
            }
        events.write(json.dumps(event) + "\n")


class _Build:
    """The build of one engine."""

    def __init__(self, job: BuildJob, events: IO[str]) -> None:
        self.job, self.key, self.events = job, job.key, events
        self.target = TARGETS[job.key.target]
        self.trt: Any = import_module(self.target.module)
        self.errors: list[str] = []
        self.logger = _make_logger(self.trt, self.errors)

    def run(self) -> dict[str, Any]:
        model = onnx.load(self.job.onnx)
        creators = self._load_plugins()
        has_library = self.job.plugins is not None
        dispatch = choose(custom_ops(model), creators, self.target, library=has_library)
        if "body" in dispatch.values():
            # The parser does not distinguish the overloads of a function.
            model = inliner.inline_local_functions(model)
        if self.target.cross and TURING in self.key.archs and float32_inputs(model):
            gemms_as_convolutions(model)
        signed_codes(model)
        try:
            builder = self.trt.Builder(self.logger)
        except TypeError as error:  # raised by the bindings if the library makes no builder
            raise self._failure() from error
        network = self._parse(builder, model.SerializeToString())
        config = self._configure(builder, network)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failure()
        try:
            size = Path(self.job.plan).write_bytes(memoryview(plan))
            if self.job.timing_cache is not None:
                content = bytes(memoryview(config.get_timing_cache().serialize()))
                write_file(Path(self.job.timing_cache), content)
        except (OSError, InputError) as error:
            text = error.what if isinstance(error, InputError) else error.strerror or str(error)
            remedy = remedy_of(
                error, "choose another --cache", free="free some space with 'foveate cache prune'"
            )
            what = f"the engine of the stage {self.key.stage!r} cannot be written ({text})"
            raise InputError(what, file=Path(self.job.plan).parent, remedy=remedy) from error
        return {"size": size, "dispatch": dispatch, "layers": self._report(plan)}

    def _load_plugins(self) -> list[tuple[str, str, str]]:
        """Load the library, and return name, version and namespace of all registered plugins."""
        if self.job.plugins is None:
            return []
        registry = self.trt.get_plugin_registry()
        if registry.load_library(self.job.plugins) is None:
            raise self._failure()
        found = registry.all_creators
        return [(one.name, one.plugin_version, one.plugin_namespace) for one in found]

    def _parse(self, builder: Any, model: bytes) -> Any:
        flag = self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(flag))
        parser = self.trt.OnnxParser(network, self.logger)
        if not parser.parse(model, self.job.onnx):
            found = [parser.get_error(number) for number in range(parser.num_errors)]
            operators = sorted({one.node_operator() for one in found} - {""})
            first = "".join(
                f"{one.node_operator() or '?'} at {one.node_name() or '?'}: {one.desc()}"
                for one in found[:1]
            )
            raise BundleError(
                f"{self.key.target} has no {', '.join(operators) or 'unknown operator'} for the "
                f"stage {self.key.stage!r} ({first})",
                remedy=EXPORT_AGAIN,
            )
        # The network refers to weights that the parser owns.
        self.parser = parser
        return network

    def _configure(self, builder: Any, network: Any) -> Any:
        trt, options = self.trt, self.key.options
        config = builder.create_builder_config()
        config.progress_monitor = make_monitor(trt, self.events)
        config.builder_optimization_level = options["optimization_level"]
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if options["workspace_mb"] is not None:
            pool = trt.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, options["workspace_mb"] << 20)
        flags = {
            "REFIT": options["refit"],
            "STRIP_PLAN": options["strip_weights"],
            "VERSION_COMPATIBLE": options["version_compatible"],
            # TensorRT for RTX: a run that allocates memory cannot be part of a CUDA graph.
            "REQUIRE_USER_ALLOCATION": self.target.cross,
        }
        for name, given in flags.items():
            if given:
                config.set_flag(getattr(trt.BuilderFlag, name))
        if not options["tf32"]:  # the flag is set by default
            config.clear_flag(trt.BuilderFlag.TF32)
        if self.target.cross:
            self._set_archs(config)
        else:
            self._set_host(config)
        self._add_profiles(builder, network, config)
        return config

    def _set_archs(self, config: Any) -> None:
        known = self.trt.ComputeCapability.__members__
        config.num_compute_capabilities = len(self.key.archs)
        for number, arch in enumerate(self.key.archs):
            config.set_compute_capability(known[arch.replace("_", "").upper()], number)

    def _set_host(self, config: Any) -> None:
        """Set the options of a target that builds for the GPU of this machine."""
        levels = self.trt.HardwareCompatibilityLevel
        name = self.key.options["hardware_compatibility"].upper()
        name = name.replace("+", "_PLUS").replace("-", "_")
        config.hardware_compatibility_level = levels.__members__[name]
        if self.job.timing_cache is not None:
            file = Path(self.job.timing_cache)
            content = file.read_bytes() if file.is_file() else b""
            # A cache of another version or GPU is refused; the build then starts an empty one.
            if not config.set_timing_cache(config.create_timing_cache(content), False):
                config.set_timing_cache(config.create_timing_cache(b""), False)

    def _add_profiles(self, builder: Any, network: Any, config: Any) -> None:
        inputs = [network.get_input(number) for number in range(network.num_inputs)]
        for shapes in self.key.profiles:
            profile = builder.create_optimization_profile()
            for tensor in inputs:
                one = shapes[tensor.name]
                # The values of a shape tensor are bounded, since shapes follow from them.
                bound = profile.set_shape_input if tensor.is_shape_tensor else profile.set_shape
                bound(tensor.name, one.minimum, one.optimum, one.maximum)
            if not profile or config.add_optimization_profile(profile) < 0:
                raise self._failure()

    def _report(self, plan: Any) -> Any:
        """Load the plan and return the layers that the engine inspector lists."""
        if not self.job.report:
            return None
        runtime = self.trt.Runtime(self.logger)
        if self.key.options["version_compatible"]:
            runtime.engine_host_code_allowed = True  # such a plan contains its own runtime
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._failure()
        inspector = engine.create_engine_inspector()
        form = self.trt.LayerInformationFormat.JSON
        return json.loads(inspector.get_engine_information(form))

    def _failure(self) -> BackendError:
        """Return the error for the last message of TensorRT."""
        text = self.errors[-1] if self.errors else "TensorRT gave no reason"
        what = f"{self.key.target} cannot build the stage {self.key.stage!r} ({text})"
        return BackendError(what, remedy=_remedy(text))


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


def _make_logger(trt: Any, errors: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # the module is chosen at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append(message)

    return Log()


if __name__ == "__main__":
    main()
