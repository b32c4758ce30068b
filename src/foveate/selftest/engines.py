# SPDX-License-Identifier: Apache-2.0
"""The step of the self-test that compares each engine with ONNX Runtime on the CPU."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from foveate.arrays import Array
from foveate.bundle import read_bundle
from foveate.errors import BackendError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cuda_memory import CudaMirror
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.engines.engine import Engine
from foveate.runtime.loading import BACKENDS, open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.selftest.checks import Checks, NotTriedError, Outcome, WrongResultError
from foveate.selftest.images import sample_image
from foveate.selftest.machine import gpu
from foveate.selftest.running import largest_difference

# Share of the largest magnitude; engines may compute in half precision.
_TOLERANCE = 0.05

Tensors = dict[str, Array]


def engine_checks(bundle: str) -> Checks:
    """Return comparisons of each stage, run by each backend that this machine has."""
    stages = read_bundle(bundle, lambda opened: tuple(opened.manifest.networks))
    return {
        f"{backend}, {stage}": partial(_compare, bundle, backend, stage)
        for backend in BACKENDS
        if backend != "auto"
        for stage in stages
    }


def _compare(bundle: str, backend: str, stage: str) -> Outcome:
    engine = _engines(bundle, backend)[stage]
    inputs, expected = _recorded(bundle)[stage]
    rows = max(len(array) for array in inputs.values())
    stream, padded = gpu().stream(), engine.rows_for(rows)
    read = {name: _mirror(array, padded - rows) for name, array in inputs.items()}
    written = {name: _mirror(array, padded - rows) for name, array in expected.items()}
    for mirror in read.values():
        mirror.send(stream)
    buffers = {name: mirror.buffer for name, mirror in {**read, **written}.items()}
    run = engine.bind(buffers, stream)

    def enqueue() -> None:
        run()
        for mirror in written.values():
            mirror.fetch(stream)

    program = gpu().program([stream], enqueue, capturable=engine.capturable)
    difference = 0.0
    for _ in range(2):  # the first launch is plain, and the second one replays its graph
        for mirror in written.values():
            mirror.array.fill(np.nan)
        program.launch().synchronize()
        found = [written[name].array[: len(array)] for name, array in expected.items()]
        difference = max(difference, largest_difference(found, list(expected.values())))
    magnitude = max(float(np.abs(array).max(initial=1)) for array in expected.values())
    if not difference <= _TOLERANCE * magnitude:
        raise WrongResultError(
            f"the outputs differ from those on the CPU by {difference:.3g}, and their largest "
            f"magnitude is {magnitude:.3g}"
        )
    return Outcome(difference=difference, facts={"recorded": program.recorded})


def _mirror(array: Array, more_rows: int) -> CudaMirror:
    """Return a mirror of an array; one of several rows gets more of them, which are zero."""
    rows = len(array) + (more_rows if len(array) > 1 else 0)
    mirror = gpu().mirror((rows, *array.shape[1:]), array.dtype)
    mirror.array.fill(0)
    mirror.array[: len(array)] = array
    return mirror


@cache
def _engines(bundle: str, backend: str) -> dict[str, Engine]:
    try:
        return read_bundle(bundle, lambda opened: open_engines(opened, gpu(), backend))
    except BackendError as error:
        raise NotTriedError(str(error)) from error


@cache
def _recorded(bundle: str) -> dict[str, tuple[Tensors, Tensors]]:
    """Return the inputs and outputs of each stage for an image on the CPU."""
    device = CpuDevice()
    opened, engines = read_bundle(
        bundle, lambda opened: (opened, open_engines(opened, device, "onnxruntime"))
    )
    recorders = {stage: _Recorder(engine) for stage, engine in engines.items()}
    with Pipeline(opened, recorders, device=device) as pipeline:
        pipeline(sample_image())
    return {stage: (one.read, one.written) for stage, one in recorders.items()}


class _Recorder(CpuEngine):
    """An engine that keeps the inputs and outputs of its first run."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.inputs, engine.outputs)
        assert isinstance(engine, CpuEngine), "the engines of the CPU take arrays"
        self._engine = engine
        self.read: Tensors = {}
        self.written: Tensors = {}

    def run(self, inputs: Tensors, outputs: Tensors) -> None:
        """Run the engine."""
        self._engine.run(inputs, outputs)
        if not self.read:
            self.read = {name: array.copy() for name, array in inputs.items()}
            self.written = {name: array.copy() for name, array in outputs.items()}

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
