# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``python -m foveate``, which runs the command ``foveate``."""

from __future__ import annotations

from foveate.cli import main

if __name__ == "__main__":
    main()
