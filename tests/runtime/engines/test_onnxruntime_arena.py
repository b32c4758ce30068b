# SPDX-License-Identifier: Apache-2.0
"""The arena of all sessions on the CPU can be released between two runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper
from tests.conftest import model_of
from tests.samples.memory import resident_bytes

from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine, release_arena

SIDE = 5000  # of an intermediate result of 100 MB


def test_memory_of_a_run_is_kept_until_it_is_released(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["value", "shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0),
    ]
    shape = {"shape": np.array([SIDE, SIDE])}
    model = model_of(nodes, {"value": (1, 1)}, {"most": ()}, **shape)
    file = tmp_path / "large.onnx"
    file.write_bytes(model.SerializeToString())
    engine = OnnxRuntimeEngine(file, threads=1)

    def most(value: float) -> float:
        result = np.zeros((), np.float32)
        engine.run({"value": np.full((1, 1), value, np.float32)}, {"most": result})
        return float(result)

    release_arena()  # of earlier tests in this process
    before = resident_bytes()
    assert most(1.5) == 1.5
    assert resident_bytes() - before > 90e6
    release_arena()
    assert resident_bytes() - before < 30e6
    assert most(2.5) == 2.5
    engine.close()
