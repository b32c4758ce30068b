# SPDX-License-Identifier: Apache-2.0
"""Training of the full-size networks as it was published: end to end, by SGD, on any COCO data set.

Beside it, `foveate.training.mini.recipe` trains `mini`, whose frozen trunk is run once and whose heads
learn from cached features, on two processor cores. Both go through `foveate.training.loop`.
"""
