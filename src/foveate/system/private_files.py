# SPDX-License-Identifier: Apache-2.0
"""Caches of one user, and whether somebody else could change what is loaded from a path."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from foveate.errors import BackendError, OptionError


def cache_folder(kind: str) -> Path:
    """Return the folder of this user's cache of a kind, which may not exist yet.

    It is ``$FOVEATE_CACHE/<kind>``, or ``foveate/<kind>`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        OptionError: The variable does not hold an absolute path, or there is no home directory.
    """
    given = os.environ.get("FOVEATE_CACHE")
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not home.startswith("/"):  # the standard says to ignore relative ones
        home = os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home() raises where there is none
    root = Path(given) if given else Path(home, "foveate")
    if not root.is_absolute():
        raise OptionError(
            f"the folder of caches must be an absolute path, found {str(root)!r}",
            remedy="set FOVEATE_CACHE to an absolute path",
        )
    return root / kind


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents, for this user alone whatever the umask.

    Raises:
        OSError: It cannot be made.
    """
    for place in reversed((folder, *folder.parents)):
        if not place.is_dir():
            try:
                place.mkdir(mode=0o700)
            except FileExistsError:  # another process was faster, or it is no folder
                if not place.is_dir():
                    raise


def check_private(path: Path) -> None:
    """Check that nobody but this user and root can change what is loaded from a path.

    The file, its folder and all folders above must belong to this user or root and must not be writable for others.
    Folders above may be writable if they are sticky, as ``/tmp`` is, and for a group that has the number of the user,
    as many distributions give each user.

    Raises:
        BackendError: Somebody else could change it.
        OSError: It cannot be looked at.
    """
    real, user = Path(os.path.realpath(path)), os.geteuid()
    for place in (real, *real.parents):
        found = place.stat()
        writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_gid == user != 0:
            writable &= ~stat.S_IWGRP
        if place != real and found.st_mode & stat.S_ISVTX:
            writable = 0
        if writable or found.st_uid not in (0, user):
            raise BackendError(
                f"{str(path)!r} is not loaded, because other users could change it",
                file=place,
                remedy="run: chmod go-w on this path if it is yours, or use a folder of your own",
            )
