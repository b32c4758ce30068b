# SPDX-License-Identifier: Apache-2.0
"""Cache directories of the user, and checks that no other user can change a file."""

import os
import stat
from pathlib import Path

from foveate.errors import BackendError, OptionError


def cache_folder(kind: str) -> Path:
    """Return the cache directory of the user for one kind of file; it need not exist.

    It is ``$FOVEATE_CACHE/<kind>``, or ``foveate/<kind>`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        OptionError: The variable is not an absolute path, or there is no home directory.
    """
    given = os.environ.get("FOVEATE_CACHE")
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not home.startswith("/"):  # the XDG standard ignores relative paths
        home = os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home() raises if there is none
    root = Path(given) if given else Path(home, "foveate")
    if not root.is_absolute():
        what = f"the cache directory must be an absolute path, found {str(root)!r}"
        raise OptionError(what, remedy="set FOVEATE_CACHE to an absolute path")
    return root / kind


def make_private(folder: Path) -> None:
    """Create a directory and its missing parents with access for this user only.

    Raises:
        OSError: The directory cannot be created.
    """
    for place in reversed((folder, *folder.parents)):
        if not place.is_dir():
            try:
                place.mkdir(mode=0o700)
            except FileExistsError:  # another process created it, or it is not a directory
                if not place.is_dir():
                    raise


def check_private(path: Path) -> None:
    """Check that only this user and root can change a file.

    The file and all directories above it must belong to this user or root and must not be writable
    for others. The directories may be writable if they are sticky, as ``/tmp`` is, or for the group
    whose id equals the user's id, which many distributions create for each user.

    Raises:
        BackendError: Another user could change the file.
        OSError: The file or a directory cannot be inspected.
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
            what = f"{str(path)!r} is not loaded, because other users could change it"
            remedy = "run: chmod go-w on this path if it is yours, or use a directory of your own"
            raise BackendError(what, file=place, remedy=remedy)
