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
