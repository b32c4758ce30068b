# SPDX-License-Identifier: Apache-2.0
"""Samples as the three papers draw them, one at a time, from a generator that the caller passes.

::

    masks = MaskSampler(dataset)                                             # DeepMask
    masks = MaskSampler(dataset, MaskSamplerOptions(label_side=160))         # SharpMask
    scores = ScoreSampler(dataset)                                           # DeepMask
    regions = RegionSampler(dataset, proposals, statistics)                  # MultiPathNet
    masks.draw(sample_generator(seed, step, index))                          # a MaskSample

Each takes its options and ``LegacyOptions`` as further arguments.
"""

from foveate.training.sampling.boxes import BoxStatistics, ProposalTable
from foveate.training.sampling.regions import RegionSampler, measure_statistics
from foveate.training.sampling.samplers import MaskSampler, ScoreSampler
from foveate.training.sampling.samples import (
    MaskSample,
    MaskSamplerOptions,
    RegionSample,
    RegionSamplerOptions,
    Sampler,
    ScoreSample,
    ScoreSamplerOptions,
    WindowOptions,
    sample_generator,
)

__all__ = [
    "BoxStatistics",
    "MaskSample",
    "MaskSampler",
    "MaskSamplerOptions",
    "ProposalTable",
    "RegionSample",
    "RegionSampler",
    "RegionSamplerOptions",
    "Sampler",
    "ScoreSample",
    "ScoreSampler",
    "ScoreSamplerOptions",
    "WindowOptions",
    "measure_statistics",
    "sample_generator",
]
