# SPDX-License-Identifier: Apache-2.0
"""Do the figures of ``foveate bench`` agree with those of hyperfine?

    python benchmarks/against_hyperfine.py --json benchmarks/results/against_hyperfine.json

hyperfine (``apt-get install hyperfine``) times whole processes, so it times one that runs the pipeline
few times and one that runs it often; their difference is the time of the runs between. Both tools
measure in turns.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure, Measurement, Result, begin, conditions, report
from measuring import IMAGES, parser_of, ratio

TITLE = "Against hyperfine"
QUESTION = """\
Whether `foveate bench` and hyperfine give the same time for the same work. hyperfine times whole processes: one that
runs the pipeline few times, and one that runs it often. The difference, divided by the number of runs between them, is
compared with the mean latency in `foveate bench`. They should agree within 5 %."""
FEW, OFTEN = 2, 10
_CODE = """
import sys, foveate
from foveate.images.reading import read_image
image = read_image(sys.argv[1])
with foveate.load("mini", options=foveate.PipelineOptions(threads=int(sys.argv[2]))) as pipeline:
    for _ in range(int(sys.argv[3])):
        pipeline(image)
"""


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=7, threads=2)
    arguments = parser.parse_args()
    if shutil.which("hyperfine") is None:
        raise SystemExit("there is no hyperfine: run apt-get install hyperfine")
    image = IMAGES / "cat.jpg"
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(arguments.rounds):
        # The order changes, so that a machine that slows down favors none.
        measures = [(ours, _bench), (theirs, _hyperfine)]
        for seconds, measure in measures[:: 1 if turn % 2 else -1]:
            seconds.append(measure(image, arguments.threads))
    measurement = Measurement(
        caption="`mini` on the photograph of a cat, mean time per image:",
        conditions=conditions(before, "onnxruntime-gpu"),
        columns=("", "time, s", "relative to hyperfine"),
        rows=(
            ("hyperfine", Figure.of(theirs), ratio(theirs, theirs)),
            ("`foveate bench`", Figure.of(ours), ratio(ours, theirs)),
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _bench(image: Path, threads: int) -> float:
    """Return the mean latency of as many images as hyperfine's difference has."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "record.json")
        words = ["bench", "mini", str(image), f"--threads={threads}", f"--json={file}"]
        words += [f"--count={OFTEN - FEW}", "--seconds=600", "--tolerance=0"]
        subprocess.run([sys.executable, "-m", "foveate", *words], check=True, capture_output=True)
        return float(json.loads(file.read_text(encoding="utf-8"))["latency"]["mean"])


def _hyperfine(image: Path, threads: int) -> float:
    """Return the time per image, from the difference of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "hyperfine.json")
        commands = [
            shlex.join([sys.executable, "-c", _CODE, str(image), str(threads), str(count)])
            for count in (FEW, OFTEN)
        ]
        words = ["--runs=2", "--shell=none", f"--export-json={file}"]
        subprocess.run(["hyperfine", *words, *commands], check=True, capture_output=True)
        few, often = json.loads(file.read_text(encoding="utf-8"))["results"]
    return float(often["mean"] - few["mean"]) / (OFTEN - FEW)


if __name__ == "__main__":
    main()
