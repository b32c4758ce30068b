# SPDX-License-Identifier: Apache-2.0
"""How much the features of a window depend on whether it is seen as a patch or in its image.

A patch has padding where the image has neighbors. DeepMask trains on patches and runs on
images, so whatever differs is lost on it. Run: `python benchmarks/patch_context.py`.
"""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.bundle import Bundle
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import SharpMask
from foveate.models.deepmask import STRIDE
from foveate.models.sharpmask import SKIP_STRIDES
from measuring import IMAGES, parser_of

TITLE = "Patches against images"
QUESTION = """\
How much the features, the score and the mask of a window depend on whether it is seen as a training patch, with padding
around it, or in its image."""
STEP = 6 * STRIDE
"""Pixels from one window that is compared to the next."""


def measure(network: SharpMask, image: Tensor) -> dict[str, list[float]]:
    """Compare the windows whose patches lie inside an image.

    Args:
        network: SharpMask, in evaluation mode.
        image: (H, W, 3) uint8 RGB, H and W multiples of 16.

    Returns:
        For each window: the root mean square of the difference of its stride-16 features over that
        of the features, the difference of the score's logit, and the IoU of the refined masks.
    """
    deepmask = network.deepmask
    normalized = deepmask.trunk.normalization(image[None])
    side, context, window = deepmask.patch_side, deepmask.context, deepmask.window
    found: dict[str, list[float]] = {"features": [], "score logit": [], "mask IoU": []}
    with torch.inference_mode():
        features = deepmask.trunk(normalized)
        horizontals = dict(zip(SKIP_STRIDES, network.horizontals(features), strict=True))
        for y in range(0, normalized.shape[2] - side + 1, STEP):
            for x in range(0, normalized.shape[3] - side + 1, STEP):

                def inside(maps: Tensor, stride: int, y: int = y, x: int = x) -> Tensor:
                    first = ((y + context) // stride, (x + context) // stride)
                    last = (first[0] + window // stride, first[1] + window // stride)
                    return maps[:, :, first[0] : last[0], first[1] : last[1]]

                patch = normalized[:, :, y : y + side, x : x + side]
                near = inside(features[STRIDE], STRIDE)
                alone = deepmask.patch_features(patch)[STRIDE]
                change = (alone - near).square().mean().sqrt() / near.square().mean().sqrt()
                found["features"].append(change.item())
                score, vectors = deepmask.windows(near)
                found["score logit"].append((deepmask.patch_scores(patch) - score).abs().item())
                windows = [inside(maps, stride) for stride, maps in horizontals.items()]
                mask = network.refine(vectors.flatten(1), windows) > 0
                lone = network.patch_masks(patch) > 0
                if (mask | lone).any():
                    found["mask IoU"].append(((mask & lone).sum() / (mask | lone).sum()).item())
    return found


def main() -> None:
    """Measure the shipped photographs and print the result."""
    parser = parser_of(__doc__, rounds=1)
    parser.add_argument("--side", type=int, default=640, help="Longer side of the images.")
    arguments = parser.parse_args()
    before = begin()
    network = cascade_from_bundle(Bundle.open("mini")).proposals
    assert isinstance(network, SharpMask)
    found: dict[str, list[float]] = {}
    for file in sorted(IMAGES.glob("*.jpg")):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        scale = arguments.side / max(image.shape[:2])
        height, width = (round(n * scale / STRIDE) * STRIDE for n in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        for name, values in measure(network, torch.from_numpy(image)).items():
            found.setdefault(name, []).extend(values)
    measurement = Measurement(
        caption=f"`mini`, the five sample images at {arguments.side} px:",
        conditions=conditions(before, "torch", "numpy"),
        columns=("", "median (quartiles)", "windows"),
        rows=tuple((name, Figure.of(one), str(len(one))) for name, one in found.items()),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


if __name__ == "__main__":
    main()
