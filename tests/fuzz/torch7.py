# SPDX-License-Identifier: Apache-2.0
"""Imports of mutated Torch7 files: a `FoveateError` or a correct result, in bounded time and memory.

`main` prints a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tests.samples.torch7.compare import assert_equals_torchfile
from tests.samples.torch7.models import Maker, deepmask, saved
from tests.samples.torch7.writer import T7Function, T7Object, T7Writer, tensor

from foveate.errors import FoveateError
from foveate.importing.torch7.importer import weights_of
from foveate.importing.torch7.reader import read_torch7

EDGES = (0, 1, -1, 2, 7, 255, 2**16, 2**31 - 1, -(2**31))


def zoo() -> dict[str, Any]:
    """Return a small object with one value of each kind."""
    shared = T7Object("nn.Linear", {"weight": tensor(np.arange(6.0).reshape(2, 3), "Cuda")})
    return {
        "modules": [shared, shared, tensor(np.arange(4), "Long"), tensor(np.ones(3), "Double")],
        "function": T7Function(b"\x1bLJ\x02abc", [{"name": "x", "value": shared}]),
        "numbers": {0: 1.5, 1: -3, 2: True, 3: "text"},
        "bytes": tensor(np.arange(5), "Byte"),
    }


def mutate(writer: T7Writer, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file in one of six ways; return the name of the way, and the bytes."""
    content = bytearray(writer.content)
    places = [at for where in writer.positions.values() for at in where]
    kind = str(rng.choice(["flip", "header", "truncate", "length", "swap", "cut"]))
    if kind == "flip":
        for at in rng.integers(len(content), size=rng.integers(1, 9)):
            content[at] ^= int(rng.integers(1, 256))
    elif kind == "header":  # close to a tag, an index or a length, where it hurts
        for at in rng.choice(places, size=rng.integers(1, 4)):
            content[min(at + rng.integers(24), len(content) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == "truncate":
        del content[int(rng.integers(len(content))) :]
    elif kind == "length":
        at = int(rng.choice(writer.positions["length"] + writer.positions["long"]))
        value = int(rng.choice(EDGES)) if rng.random() < 0.7 else int(rng.integers(1000))
        struct.pack_into("<i", content, at, value)
    elif kind == "swap":
        a, b = rng.choice(writer.positions[str(rng.choice(["index", "tag", "length"]))], size=2)
        content[a : a + 4], content[b : b + 4] = content[b : b + 4], content[a : a + 4]
    else:
        at = int(rng.integers(len(content)))
        del content[at : at + int(rng.integers(1, 9))]
    return kind, bytes(content)


def fuzz(cases: int, seed: int) -> dict[str, Any]:
    """Import mutated files.

    Raises:
        Exception: An import raised another error than a FoveateError, or read other values than
            torchfile.
    """
    rng = np.random.default_rng(seed)
    writers = [T7Writer(), T7Writer()]
    writers[0].write(saved(deepmask(Maker(form="addition"))))
    writers[1].write(zoo())
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    start, start_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mutated.t7"
        _try_import(file, bytes(writers[0].content))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(cases):
            kind, content = mutate(writers[case % 2], rng)
            began = time.process_time()  # without the time of other work on the machine
            try:
                outcome = _try_import(file, content)
                slowest = max(slowest, time.process_time() - began)
                if outcome != "refused":
                    # By torchfile, which multiplies even the stride of an axis of length 1.
                    with contextlib.suppress(OverflowError):
                        assert_equals_torchfile(file)
            except Exception:
                sys.stderr.write(f"case {case} of seed {seed}: {kind}\n")
                raise
            outcomes[outcome] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cases": cases,
        **outcomes,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - start_cpu, 1),
        "slowest_cpu_ms": round(slowest * 1000),
        "growth_mib": round((peak - before) / 1024),
        "file_kib": [round(len(writer.content) / 1024) for writer in writers],
    }


def _try_import(file: Path, content: bytes) -> str:
    # A new file each time: the mapping of the last one may still be alive.
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    try:
        root = read_torch7(file)
    except FoveateError:
        return "refused"
    try:
        weights_of(root).build()
    except FoveateError:
        return "read"
    return "imported"


def main(cases: int, seed: int) -> None:
    sys.stdout.write(json.dumps(fuzz(cases, seed)) + "\n")
