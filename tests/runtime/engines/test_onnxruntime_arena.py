# SPDX-License-Identifier: Apache-2.0
"""The arena of all sessions on the CPU can be released between two runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import helper
from tests.conftest import model_of
from tests.samples.paths import ROOT

SIDE = 5000  # of an intermediate result of 100 MB

# In a process of its own: sessions of other tests may hold parts of the arena, which then has room.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.append(sys.argv[2])
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine, release_arena
from tests.samples.memory import resident_bytes

engine = OnnxRuntimeEngine(Path(sys.argv[1]), threads=1)

def most(value):
    result = np.zeros((), np.float32)
    engine.run({"value": np.full((1, 1), value, np.float32)}, {"most": result})
    return float(result)

release_arena()
before = resident_bytes()
results = [most(1.5)]
kept = resident_bytes() - before
release_arena()
released = resident_bytes() - before
results.append(most(2.5))
print(json.dumps([results, kept, released]))
"""


def test_memory_of_a_run_is_kept_until_it_is_released(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["value", "shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0),
    ]
    shape = {"shape": np.array([SIDE, SIDE])}
    model = model_of(nodes, {"value": (1, 1)}, {"most": ()}, **shape)
    file = tmp_path / "large.onnx"
    file.write_bytes(model.SerializeToString())
    command = [sys.executable, "-c", PROGRAM, str(file), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results, kept, released = json.loads(done.stdout)
    assert results == [1.5, 2.5]
    assert kept > 90e6
    assert released < 30e6
