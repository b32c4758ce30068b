# SPDX-License-Identifier: Apache-2.0
"""Time of new processes: importing the package, and from nothing to the first overlay.

    python benchmarks/cold_start.py --json benchmarks/results/cold_start.json

All commands run in turns. Files are in the cache of the system, as they are after the first run.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

from figures import Figure, Measurement, Result, begin, conditions, report
from measuring import IMAGES, in_turns, parser_of

TITLE = "Cold start"
QUESTION = """\
How long a new process takes to import Foveate, and to write the first overlay. The aims are 0.2 s for the import, without
the start of Python, and 1.3 s for the overlay. Processor time is that of all threads, which other work hardly changes.
Files are in the cache of the system."""
PYTHON, IMPORT, OVERLAY = "start of Python", "`import foveate`", "`foveate run` of one image"


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=15, threads=2)
    arguments = parser.parse_args()
    image = IMAGES / "cat.jpg"
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        run = ["-m", "foveate", "run", str(image), "--output", folder]
        commands: dict[str, Callable[[], object]] = {
            PYTHON: partial(_python, "-c", "pass"),
            IMPORT: partial(_python, "-c", "import foveate"),
            OVERLAY: partial(_python, *run, f"--threads={arguments.threads}"),
        }
        used: dict[str, list[float]] = {name: [] for name in commands}
        timed = {name: partial(_counted, run, used[name]) for name, run in commands.items()}
        seconds = in_turns(timed, arguments.rounds, warm_up=0)
    measurement = Measurement(
        caption="A process from its start to its end:",
        conditions=conditions(before, "onnxruntime-gpu", "numpy", "opencv-python-headless"),
        columns=("", "time, s", "processor time, s"),
        rows=tuple(
            (name, Figure.of(all_), Figure.of(used[name])) for name, all_ in seconds.items()
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _counted(run: Callable[[], object], used: list[float]) -> None:
    """Run a command, and add its processor time to a list."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)


if __name__ == "__main__":
    main()
