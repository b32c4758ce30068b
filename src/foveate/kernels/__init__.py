# SPDX-License-Identifier: Apache-2.0
"""Operations between the engines, one directory per operation.

``op.py`` declares the ``Op`` and its launches on a GPU, ``cpu.py`` is the production version for
NumPy memory, ``reference.py`` is the slow and obvious version that the others are tested against,
and ``<op>.cuh`` contains the device code. ``Device.launch(op, stream, ...)`` runs an operation.
"""

from foveate.kernels.op import Launch, Memory, Op

__all__ = ["Launch", "Memory", "Op"]
