# SPDX-License-Identifier: Apache-2.0
"""Twenty steps of a narrow DeepMask: run by `torchrun` in several processes, or called in one.

torchrun --standalone --nproc-per-node 2 tests/samples/training_process.py OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tests.samples.training import Masks, Scores, narrow_deepmask
from torch import nn

from foveate.training.distributed import World, open_world
from foveate.training.loader import Loader
from foveate.training.original.batches import WindowSource
from foveate.training.original.objectives import DeepMaskObjective
from foveate.training.original.schedules import DEEPMASK
from foveate.training.original.sgd import SgdTraining

STEPS = 20


def losses(here: World) -> tuple[list[dict[str, float]], nn.Module]:
    """Train with batches of 4 windows over all processes, dropout off."""
    # A process beyond the first begins with other weights, which must not matter.
    torch.manual_seed(here.rank)
    objective = DeepMaskObjective(narrow_deepmask())
    for module in objective.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    schedule = DEEPMASK.shortened(epochs=1, epoch_steps=STEPS, batch=4)
    source = WindowSource(Masks(), Scores(), score_share=0.5, seed=0)
    loader = Loader(source, indices=here.share(4), seed=0, steps=STEPS, workers=0)
    work = SgdTraining(objective, schedule, loader, here)
    return [work.step(index) for index in range(STEPS)], objective.network


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_world("cpu") as here:
        found, network = losses(here)
        torch.save(
            {"size": here.size, "losses": found, "network": network.state_dict()},
            Path(sys.argv[1]) / f"{here.rank}",
        )
