# SPDX-License-Identifier: Apache-2.0
"""What a word of the command line means, where it may be a file, a folder or a shipped bundle."""

from __future__ import annotations

import os
from pathlib import Path

from foveate.bundle import is_shipped_name


def path_or_name(text: str | Path) -> Path:
    """Keep ``./mini``, a folder, apart from ``mini``, a shipped bundle: `Path` takes them for one."""
    given = os.fspath(text)
    return Path(given).absolute() if os.sep in given else Path(given)


def is_checkpoint(given: str | Path) -> bool:
    """Tell whether a checkpoint is meant: a file that is there, or a name that ends as theirs do.

    Else it is a bundle, as is every plain word that is a shipped bundle's name.
    """
    path = Path(given)
    return not is_shipped_name(os.fspath(given)) and (
        path.is_file() or path.suffix == ".safetensors"
    )
