# SPDX-License-Identifier: Apache-2.0
"""What happens between the engines: one folder an operation.

Each folder declares one or a few ``Op`` values in its ``__init__``. ``host.py`` is the production
code for numpy memory, ``reference.py`` the slow and obvious code that every version is tested
against. ``Device.launch(op, stream, ...)`` is the only way in.
"""

from __future__ import annotations

from foveate.kernels.op import Op

__all__ = ["Op"]
