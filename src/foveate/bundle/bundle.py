# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file per stage, checked when it is opened."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from foveate.bundle.external_data import external_files
from foveate.bundle.manifest import FileSpec, Manifest
from foveate.bundle.signatures import check_signatures
from foveate.errors import BundleError
from foveate.system.files import recover_folder
from foveate.system.regular_files import open_regular

MANIFEST_NAME = "manifest.json"
_SHIPPED = Path(__file__).parents[1] / "assets" / "bundles"
_MAX_MANIFEST_BYTES = 16 << 20
_ATTEMPTS = 200  # to read a bundle that other processes keep replacing

_AGAIN = "copy or export the bundle again"

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are complete and unchanged.

    Args:
        root: Directory of the bundle.
        manifest: Its manifest.
        seen: Identity of each file when it was checked, by name.
    """

    root: Path
    manifest: Manifest
    seen: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, path_or_name: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and check every file that its manifest lists.

        If the bundle is replaced meanwhile, it is read again from the start.

        Args:
            path_or_name: Name of a shipped bundle such as ``"mini"``, or a directory. The name of a
                shipped bundle takes precedence: write ``./mini`` for a directory of that name.

        Raises:
            BundleError: There is no such bundle, a stage or file is missing or not a regular file,
                a file has changed, a path leaves the bundle, a stage stores weights in a file that
                is not listed, or the schema is too new. The text names the file.
        """
        return read_bundle(path_or_name, lambda bundle: bundle)

    def path(self, name: str) -> Path:
        """Return the path of a file in the bundle.

        Args:
            name: Path relative to the bundle, with forward slashes.

        Raises:
            BundleError: The path leaves the bundle.
        """
        check_relative(name, self.root)
        path = self.root.joinpath(*PurePosixPath(name).parts)
        _check_inside(path, self.root)
        return path

    def stage_path(self, stage: str) -> Path:
        """Return the path of the ONNX file of a stage.

        Raises:
            BundleError: The bundle has no such stage.
        """
        if stage not in self.manifest.stages:
            what = f"the bundle has no stage {stage!r} (it has: {', '.join(self.manifest.stages)})"
            remedy = "use a bundle that was exported with this stage"
            raise BundleError(what, file=self.root, remedy=remedy)
        return self.path(self.manifest.stages[stage].file)

    def open_stage(self, stage: str) -> io.BufferedReader:
        """Open the ONNX file of a stage, which the caller closes.

        Raises:
            BundleError: The file was replaced after its check, or cannot be read.
        """
        path, name = self.stage_path(stage), self.manifest.stages[stage].file
        stream = _open(path)
        if name in self.seen and _identity(stream) != self.seen[name]:
            stream.close()
            raise BundleError("a file was replaced after its check", file=path, remedy=_AGAIN)
        return stream


def read_bundle(path_or_name: str | os.PathLike[str], read: Callable[[Bundle], T]) -> T:
    """Open a bundle and call a function on it, again from the start if the bundle is replaced.

    Args:
        path_or_name: See :meth:`Bundle.open`.
        read: Function to call on the opened bundle. It raises BundleError if a file is missing or
            was replaced after its check.

    Returns:
        The result of the function.

    Raises:
        BundleError: The bundle is damaged.
    """
    # A writer exchanges the whole directory, so that files of two bundles can be read in one attempt.
    for _ in range(_ATTEMPTS):
        root = _find(os.fspath(path_or_name))
        before = _manifest_identity(root)
        try:
            return read(_open_bundle(root))
        except BundleError:
            # The error may come from a mix of the old and the new bundle.
            if _manifest_identity(root) == before:
                raise
    raise BundleError("the bundle keeps being replaced", file=root, remedy="try again later")


def _open_bundle(root: Path) -> Bundle:
    file = root / MANIFEST_NAME
    try:
        manifest = Manifest.from_json(_read_manifest(root))
        check_stages(manifest)
    except BundleError as error:
        if error.file is not None:
            raise
        raise BundleError(error.what, file=file, remedy=error.remedy) from error
    bundle = Bundle(root, manifest)
    stages = {spec.file: stage for stage, spec in manifest.stages.items()}
    files = manifest.files.items()
    seen = {name: _check_file(bundle, name, record, stages.get(name)) for name, record in files}
    return Bundle(root, manifest, seen)


def is_shipped_name(text: str) -> bool:
    """Return whether a string is the name of a shipped bundle rather than a path."""
    return os.sep not in text and text in shipped_bundles()


def shipped_bundles() -> tuple[str, ...]:
    """Return the names of the bundles in this package, sorted."""
    if not _SHIPPED.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in _SHIPPED.glob(f"*/{MANIFEST_NAME}")))


def _find(text: str) -> Path:
    if is_shipped_name(text):
        return _SHIPPED / text
    path = Path(text)
    # Unlike the methods of Path, these functions never raise, whatever the text.
    if not os.path.isdir(path) and text.isprintable():  # noqa: PTH112 - see above
        with suppress(OSError):
            recover_folder(path)
    if os.path.isdir(path):  # noqa: PTH112 - see above
        return path
    if os.path.exists(path):  # noqa: PTH110 - see above
        what = "expected the directory of a bundle, found a file"
        raise BundleError(what, file=path, remedy="pass the directory that 'foveate export' wrote")
    known = ", ".join(shipped_bundles()) or "none"
    raise BundleError(
        "there is no such bundle", file=text, remedy=f"pass a directory or a shipped name ({known})"
    )


def _read_manifest(root: Path) -> str:
    file = root / MANIFEST_NAME
    if not os.path.lexists(file):
        what = "the directory is not a bundle: it has no manifest"
        raise BundleError(what, file=file, remedy="pass the directory that 'foveate export' wrote")
    _check_inside(file, root)
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


def check_stages(manifest: Manifest) -> None:
    """Check that the manifest lists the file of every stage, and tensors that the pipeline uses."""
    for name, stage in manifest.stages.items():
        if stage.file not in manifest.files:
            what = f"the file {stage.file!r} of the stage {name!r} has no checksum in the manifest"
            raise BundleError(what, remedy="export the bundle again")
    check_signatures(manifest)


def check_relative(name: str, root: Path) -> None:
    """Check that the path of a file does not leave the bundle."""
    parts = PurePosixPath(name).parts
    # A drive or a backslash would leave the bundle on Windows, so both are refused everywhere.
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive
    if not parts or absolute or ".." in parts or "\\" in name or "\0" in name:
        what = f"the manifest names {name!r}, a path that leaves the bundle"
        remedy = "do not use this bundle unless you trust its source"
        raise BundleError(what, file=root, remedy=remedy)


def _check_inside(path: Path, root: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        what = f"the file {path.relative_to(root).as_posix()!r} is a link that leaves the bundle"
        raise BundleError(what, file=root, remedy="replace the link with a copy of its file")


def _check_file(bundle: Bundle, name: str, record: FileSpec, stage: str | None) -> tuple[int, ...]:
    """Compare a file with its record and return its identity."""
    path = bundle.path(name)
    with _open(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != record.size:
            what = f"a file has {size} bytes, the manifest lists {record.size}"
            raise BundleError(what, file=path, remedy=_AGAIN)
        found = _digest(stream, size)
        if found != record.sha256:
            what = f"a file was changed (SHA-256 {found[:12]}..., expected {record.sha256[:12]}...)"
            raise BundleError(what, file=path, remedy=_AGAIN)
        if stage is not None:
            stream.seek(0)
            for location in external_files(stream, size):
                if str(PurePosixPath(name).parent / location) not in bundle.manifest.files:
                    raise BundleError(
                        f"the stage {stage!r} reads weights from {location!r:.80}, "
                        "which the manifest does not list",
                        file=path,
                        remedy="export the bundle again",
                    )
        return _identity(stream)


def _open(path: Path) -> io.BufferedReader:
    try:
        return open_regular(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"a file of the bundle cannot be read ({reason})"
        raise BundleError(what, file=path, remedy=_AGAIN) from error


def _digest(stream: io.BufferedReader, size: int) -> str:
    """Return the SHA-256 of the first bytes of a file; it may grow without end."""
    digest = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _identity(stream: io.BufferedReader) -> tuple[int, ...]:
    """Return values that differ between a file and one that replaces it."""
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _manifest_identity(root: Path) -> tuple[int, ...] | None:
    try:
        found = (root / MANIFEST_NAME).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
