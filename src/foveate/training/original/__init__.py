# SPDX-License-Identifier: Apache-2.0
"""Training of the full-size networks as published: end to end, by SGD, on any COCO data set.

``run.run`` goes from the options of ``foveate train`` to a checkpoint: it opens the data
(``batches``), builds the network (``networks``) and its losses (``objectives``), looks up the
schedule (``schedules``) and calls ``train.train``, which runs the steps (``sgd``) and reports them
(``monitor``).
"""
