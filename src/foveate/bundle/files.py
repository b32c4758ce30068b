# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: their paths, contents and identities."""

import hashlib
import io
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from foveate.errors import BundleError
from foveate.system.regular_files import open_regular

MANIFEST_NAME = "manifest.json"
HUB_SCHEME = "hf://"  # prefix of the names of bundles on the Hugging Face Hub
CARD_NAME = "README.md"  # shown by the Hugging Face Hub
_MAX_MANIFEST_BYTES = 16 << 20

AGAIN = "copy, download or export the bundle again"


def read_manifest(root: Path) -> str:
    """Return the text of the manifest in a directory.

    Raises:
        BundleError: The directory has none, or it cannot be read.
    """
    file = root / MANIFEST_NAME
    if not os.path.lexists(file):
        what = "the directory is not a bundle: it has no manifest"
        raise BundleError(what, file=file, remedy="pass the directory that 'foveate export' wrote")
    check_inside(file, root)
    try:
        with open_regular(file) as stream:
            # One extra byte distinguishes a manifest that is too large from the largest one.
            content = stream.read(_MAX_MANIFEST_BYTES + 1)
        if len(content) > _MAX_MANIFEST_BYTES:
            raise BundleError("the manifest is larger than 16 MiB", file=file)
        return content.decode()
    except UnicodeDecodeError as error:
        raise BundleError("the manifest is not UTF-8 text", file=file) from error
    except OSError as error:
        raise BundleError(f"cannot read the manifest ({error.strerror})", file=file) from error


def check_relative(name: str, root: Path) -> None:
    """Check that the path of a file does not leave the bundle."""
    parts = PurePosixPath(name).parts
    # A drive or a backslash would leave the bundle on Windows, so both are refused everywhere.
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive
    if not parts or absolute or ".." in parts or "\\" in name or "\0" in name:
        what = f"the manifest names {name!r}, a path that leaves the bundle"
        remedy = "do not use this bundle unless you trust its source"
        raise BundleError(what, file=root, remedy=remedy)


def is_packaged(root: Path) -> bool:
    """Return whether a directory is a part of this package, as a shipped bundle is."""
    return root.resolve().is_relative_to(Path(__file__).parents[1])


def is_snapshot(root: Path) -> bool:
    """Return whether a directory is in the cache of the Hugging Face Hub, which must not change."""
    return root.parent.name == "snapshots" and (root.parents[1] / "blobs").is_dir()


def check_inside(path: Path, root: Path) -> None:
    """Check that a file is not a link that leaves the bundle, or its repository in the Hub's cache."""
    # A snapshot in the cache consists of links to files that several snapshots share.
    folders = (root, root.parents[1] / "blobs") if is_snapshot(root) else (root,)
    place = Path(os.path.realpath(path))
    if not any(place.is_relative_to(os.path.realpath(folder)) for folder in folders):
        what = f"the file {path.relative_to(root).as_posix()!r} is a link that leaves the bundle"
        raise BundleError(what, file=root, remedy="replace the link with a copy of its file")


def open_file(path: Path) -> io.BufferedReader:
    """Open a file of a bundle, which the caller closes.

    Raises:
        BundleError: It cannot be read.
    """
    try:
        return open_regular(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"a file of the bundle cannot be read ({reason})"
        raise BundleError(what, file=path, remedy=AGAIN) from error


def digest_of(stream: io.BufferedReader, size: int) -> str:
    """Return the SHA-256 of the first bytes of a file; it may grow without end."""
    digest = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def identity_of(stream: io.BufferedReader) -> tuple[int, ...]:
    """Return values that differ between a file and one that replaces it."""
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def manifest_identity(root: Path) -> tuple[int, ...] | None:
    """Return values that differ between a manifest and one that replaces it; None without one."""
    try:
        found = (root / MANIFEST_NAME).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
