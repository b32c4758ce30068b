# SPDX-License-Identifier: Apache-2.0
"""The average recall that is lost because training sees patches and inference sees images.

    python benchmarks/patch_recall.py data/mini --images 20

Pipelines with the same weights, which differ in what a window of the pyramid sees: the whole
level around it, as in use; for its mask only a patch like training's, with padding beyond the 16
pixels of context; with --scores, in a third one, for its score as well, which takes
minutes per image on a CPU. Selection, suppression and pasting are the pipeline's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.evaluation import GroundTruth, evaluate
from foveate.export.execution.torch_engines import torch_functions
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import SharpMask
from foveate.models.deepmask import STRIDE
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.engines import FunctionEngine
from measuring import parser_of

TITLE = "Recall from patches"
QUESTION = """\
How much average recall it costs that training sees patches and the pipeline sees images: composed validation images, the
pipeline as it is, and with masks refined from patches as training draws them."""
FIGURES = ("mask AR@10", "mask AR@100", "mean best overlap")
BATCH = 64
"""Patches that are run at once."""


class PatchMode:
    """The stages of a SharpMask that see each window as a patch.

    The vector of a window is not needed, since its patch is processed again. Its first three
    numbers are replaced by level, row and column of the window, from which `refine` cuts the patch.

    Args:
        bundle: Bundle whose proposal network is a SharpMask.
        scores: Whether windows are scored as patches too.
    """

    def __init__(self, bundle: Bundle, *, scores: bool):
        cascade = cascade_from_bundle(bundle)
        assert isinstance(cascade.proposals, SharpMask)
        self._network = cascade.proposals
        self._whole = torch_functions(cascade)["propose"]
        self._scores = scores
        self._levels: list[Tensor] = []

    def forget(self) -> None:
        """Drop the levels of the last image."""
        self._levels.clear()

    def propose(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Score the windows of a level, and number them."""
        outputs = {name: np.array(values) for name, values in self._whole(inputs).items()}
        level = torch.from_numpy(np.array(inputs["image"]))
        context = self._network.deepmask.context
        # The canvas ends in what fills it, and so does a patch that reaches over its edge.
        padded = functional.pad(level, (context,) * 4) + _ring(level, context)
        rows, columns = outputs["scores"].shape[2:]
        places = np.indices((rows, columns))
        outputs["vectors"][0, 0] = len(self._levels)
        outputs["vectors"][0, 1:3] = places
        self._levels.append(padded)
        if self._scores:
            found = self._run("patch_scores", outputs["vectors"][0, :3].reshape(3, -1).T)
            outputs["scores"] = found.reshape(1, 1, rows, columns)
        return outputs

    def refine(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Refine the patches of windows that were selected."""
        return {"logits": self._run("patch_masks", inputs["vectors"][:, :3])}

    def _run(self, method: str, windows: Array) -> Array:
        side = self._network.deepmask.patch_side
        found = []
        for first in range(0, len(windows), BATCH):
            patches = []
            for level, row, column in windows[first : first + BATCH].astype(int).tolist():
                y, x = row * STRIDE, column * STRIDE
                patches.append(self._levels[level][:, :, y : y + side, x : x + side])
            with torch.inference_mode():
                batch = torch.cat(patches).to(memory_format=torch.channels_last)
                found.append(getattr(self._network, method)(batch).numpy())
        return np.concatenate(found)


def _ring(level: Tensor, width: int) -> Tensor:
    """Return the fill of a level, around it: (1, 3, H + 2 width, W + 2 width), zero inside."""
    fill = level[:, :, :1, :1]
    ring = functional.pad(torch.zeros_like(level), (width,) * 4, value=1.0)
    return ring * fill


def pipeline(bundle: Bundle, mode: PatchMode | None, top_k: int) -> Pipeline:
    """Make a pipeline that proposes; without a mode, the usual one in PyTorch."""
    functions: dict[str, Any] = dict(torch_functions(cascade_from_bundle(bundle)))
    if mode is not None:
        functions |= {"propose": mode.propose, "refine": mode.refine}
    engines = {
        name: FunctionEngine(spec.inputs, spec.outputs, functions[name])
        for name, spec in bundle.manifest.stages.items()
    }
    return Pipeline(bundle, engines, options=PipelineOptions(top_k=top_k))


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=1)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--scores", action="store_true", help="Score by patches too; takes long.")
    arguments = parser.parse_args()
    before = begin()
    bundle = Bundle.open(arguments.bundle)
    truth = GroundTruth.open(arguments.dataset, limit=arguments.images)
    modes = {"as it is": None, "masks from patches": PatchMode(bundle, scores=False)}
    if arguments.scores:
        modes["masks and scores from patches"] = PatchMode(bundle, scores=True)
    measurement = Measurement(
        caption=f"{len(truth.images)} images with {len(truth.objects)} objects, 95 % intervals:",
        conditions=conditions(before, "torch", "numpy"),
        columns=("", *FIGURES),
        rows=tuple(
            (name, *_recall(bundle, truth, mode, arguments.top_k)) for name, mode in modes.items()
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _recall(
    bundle: Bundle, truth: GroundTruth, mode: PatchMode | None, top_k: int
) -> Iterator[Figure]:
    with pipeline(bundle, mode, top_k) as run:
        found = evaluate(
            run,
            truth,
            task="proposals",
            most=top_k,
            progress=lambda *_: mode.forget() if mode else None,
        ).figures
    for name in FIGURES:
        yield Figure(value=found[name].value, low=found[name].low, high=found[name].high)


if __name__ == "__main__":
    main()
