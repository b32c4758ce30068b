# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file a stage, checked before it is used."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, TypeVar

from foveate.bundle.external_data import external_files
from foveate.bundle.manifest import FileSpec, Manifest
from foveate.errors import BundleError, InputError
from foveate.system.files import new_folder, open_regular, recover_folder

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Mapping

MANIFEST_NAME = "manifest.json"
_SHIPPED = Path(__file__).parents[1] / "assets" / "bundles"
_MAX_MANIFEST_BYTES = 16 << 20
_ATTEMPTS = 200  # to read a bundle between two replacements of it

_AGAIN = "copy or export the bundle again"

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were found complete and unchanged.

    Args:
        root: Directory of the bundle.
        manifest: What its manifest says.
        seen: What tells each file apart from one that replaces it, by name.
    """

    root: Path
    manifest: Manifest
    seen: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, path_or_name: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and check every file that its manifest lists.

        A bundle that is replaced meanwhile is read again from the start.

        Args:
            path_or_name: Name of a shipped bundle such as ``"mini"``, or a directory. A plain word
                that is the name of a shipped bundle means that one: write ``./mini`` for a
                directory of the same name.

        Raises:
            BundleError: There is no such bundle, a stage or file is missing or is no regular file,
                a file was changed, a path leaves the bundle, a stage keeps weights in a file that
                is not listed, or the schema is too new. The text names the file.
        """
        return read_bundle(path_or_name, lambda bundle: bundle)

    def path(self, name: str) -> Path:
        """Return the path of a file of the bundle, refusing every path that leaves it.

        Args:
            name: The file, relative to the bundle, with forward slashes.
        """
        _check_relative(name, self.root)
        path = self.root.joinpath(*PurePosixPath(name).parts)
        _check_inside(path, self.root)
        return path

    def stage_path(self, stage: str) -> Path:
        """Return the path of a stage's ONNX file."""
        if stage not in self.manifest.stages:
            raise BundleError(
                f"the bundle has no stage {stage!r} (it has: {', '.join(self.manifest.stages)})",
                file=self.root,
                remedy="use a bundle that was exported with this stage",
            )
        return self.path(self.manifest.stages[stage].file)

    def open_stage(self, stage: str) -> io.BufferedReader:
        """Open a stage's ONNX file, which must still be the one that was checked.

        Raises:
            BundleError: It was replaced, or cannot be read.
        """
        path, name = self.stage_path(stage), self.manifest.stages[stage].file
        stream = _open(path)
        if name in self.seen and _identity(stream) != self.seen[name]:
            stream.close()
            raise BundleError("a file was replaced after its check", file=path, remedy=_AGAIN)
        return stream


def read_bundle(path_or_name: str | os.PathLike[str], read: Callable[[Bundle], T]) -> T:
    """Open a bundle and read it, again from the start if it is replaced meanwhile.

    Args:
        path_or_name: as for `Bundle.open`.
        read: What is to be done with the opened bundle; it raises `BundleError` if a file is missing
            or is not what was checked.

    Raises:
        BundleError: The bundle is damaged.
    """
    for _ in range(_ATTEMPTS):
        root = _find(os.fspath(path_or_name))
        before = _manifest_identity(root)
        try:
            return read(_open_bundle(root))
        except BundleError:
            if _manifest_identity(root) == before:
                raise
    raise BundleError("the bundle is being replaced all the time", file=root, remedy="try later")


def _open_bundle(root: Path) -> Bundle:
    file = root / MANIFEST_NAME
    try:
        manifest = Manifest.from_json(_read_manifest(root))
        _check_stages(manifest)
    except BundleError as error:
        if error.file is not None:
            raise
        raise BundleError(error.what, file=file, remedy=error.remedy) from error
    bundle = Bundle(root, manifest)
    stages = {spec.file: stage for stage, spec in manifest.stages.items()}
    seen = {
        name: _check_file(bundle, name, record, stages.get(name))
        for name, record in manifest.files.items()
    }
    return Bundle(root, manifest, seen)


def is_shipped_name(text: str) -> bool:
    """Tell whether what was written means a bundle that comes with this package.

    A plain word does that is such a name, even where a file or folder of that name lies here.
    """
    return os.sep not in text and text in shipped_bundles()


def shipped_bundles() -> tuple[str, ...]:
    """Return the names of the bundles that come with this package, sorted."""
    if not _SHIPPED.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in _SHIPPED.glob(f"*/{MANIFEST_NAME}")))


def write_bundle(
    directory: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle so that an interrupted writer leaves nothing half-made.

    Args:
        directory: Target; its parents are made.
        manifest: The manifest; its list of files is replaced by one made from ``files``.
        files: Content of each file by its path in the bundle.
        overwrite: Replace a bundle that is already there. Nothing else is ever replaced.

    Returns:
        The bundle, opened and checked from disk.

    Raises:
        BundleError: The target is no bundle or not to be replaced, or it cannot be written.
    """
    target = Path(directory)
    check_target(target, overwrite=overwrite)
    for name in files:
        _check_relative(name, target)
    listed = {
        name: FileSpec(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in files.items()
    }
    manifest = replace(manifest, files=listed)
    _check_stages(manifest)
    try:
        with new_folder(target, overwrite=overwrite) as fresh:
            _put(fresh, manifest, files)
    except (OSError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.what
        raise BundleError(
            f"the bundle cannot be written ({reason})",
            file=target,
            remedy="make room, or choose another directory",
        ) from error
    return Bundle.open(target.absolute())


def _put(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder.joinpath(*PurePosixPath(name).parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")


def _find(text: str) -> Path:
    if is_shipped_name(text):
        return _SHIPPED / text
    path = Path(text)
    # Unlike methods of Path these raise nothing, whatever the text.
    if not os.path.isdir(path) and text.isprintable():  # noqa: PTH112 - see above
        with suppress(OSError):
            recover_folder(path)
    if os.path.isdir(path):  # noqa: PTH112 - see above
        return path
    if os.path.exists(path):  # noqa: PTH110 - see above
        raise BundleError(
            "a bundle is a directory, this is a file",
            file=path,
            remedy="give the directory that 'foveate export' wrote",
        )
    known = ", ".join(shipped_bundles()) or "none"
    raise BundleError(
        "there is no such bundle", file=text, remedy=f"give a directory or a shipped name ({known})"
    )


def _read_manifest(root: Path) -> str:
    file = root / MANIFEST_NAME
    if not os.path.lexists(file):
        raise BundleError(
            "the directory is no bundle: it has no manifest",
            file=file,
            remedy="give the directory that 'foveate export' wrote",
        )
    _check_inside(file, root)
    try:
        with open_regular(file) as stream:
            content = stream.read(_MAX_MANIFEST_BYTES + 1)
        if len(content) > _MAX_MANIFEST_BYTES:
            raise BundleError("the manifest is larger than 16 MiB", file=file)
        return content.decode()
    except UnicodeDecodeError as error:
        raise BundleError("the manifest is not UTF-8 text", file=file) from error
    except OSError as error:
        raise BundleError(f"cannot read the manifest ({error.strerror})", file=file) from error


def _check_stages(manifest: Manifest) -> None:
    for name, stage in manifest.stages.items():
        if stage.file not in manifest.files:
            raise BundleError(
                f"the file {stage.file!r} of the stage {name!r} has no checksum in the manifest",
                remedy="export the bundle again",
            )


def _check_relative(name: str, root: Path) -> None:
    parts = PurePosixPath(name).parts
    # A Windows drive or backslash would leave the bundle there, so it is refused everywhere.
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive
    if not parts or absolute or ".." in parts or "\\" in name or "\0" in name:
        raise BundleError(
            f"the manifest names {name!r}, a path that leaves the bundle",
            file=root,
            remedy="do not use this bundle unless you trust where it comes from",
        )


def _check_inside(path: Path, root: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise BundleError(
            f"the file {path.relative_to(root).as_posix()!r} is a link that leads out of the bundle",
            file=root,
            remedy="replace the link by a copy of its file",
        )


def _check_file(bundle: Bundle, name: str, record: FileSpec, stage: str | None) -> tuple[int, ...]:
    """Compare a file with its record, and return what tells it apart from one that replaces it."""
    path = bundle.path(name)
    with _open(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != record.size:
            what = f"a file has {size} bytes, the manifest says {record.size}"
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
    """Return the SHA-256 of a file, of which no more is read than was announced."""
    digest = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _identity(stream: io.BufferedReader) -> tuple[int, ...]:
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _manifest_identity(root: Path) -> tuple[int, ...] | None:
    try:
        found = (root / MANIFEST_NAME).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to a directory.

    Raises:
        BundleError: Something else is there, or a bundle that is not to be replaced.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_NAME).is_file()):
        raise BundleError(
            "the target exists and is no bundle", file=target, remedy="choose another directory"
        )
    if not overwrite and any(target.iterdir()):
        raise BundleError(
            "the bundle exists already",
            file=target,
            remedy="choose another directory, or ask to overwrite it",
        )
