# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file a stage, checked before it is used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from foveate.errors import BundleError
from foveate.manifest import (
    REQUIRED_STAGES,
    SCHEMA,
    STAGES,
    ClassifySpec,
    FeaturesSpec,
    FileSpec,
    Manifest,
    MaskSpec,
    PluginSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MANIFEST_NAME",
    "REQUIRED_STAGES",
    "SCHEMA",
    "STAGES",
    "Bundle",
    "ClassifySpec",
    "FeaturesSpec",
    "FileSpec",
    "Manifest",
    "MaskSpec",
    "PluginSpec",
    "PreprocessingSpec",
    "PyramidSpec",
    "SelectSpec",
    "StageSpec",
    "TensorSpec",
    "WindowSpec",
    "is_shipped_name",
    "shipped_bundles",
    "write_bundle",
]

MANIFEST_NAME = "manifest.json"
_SHIPPED = Path(__file__).parent / "bundles"
_MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were found complete and unchanged.

    Args:
        root: Directory of the bundle.
        manifest: What its manifest says.
    """

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path_or_name: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and check every file that its manifest lists.

        Args:
            path_or_name: Name of a shipped bundle such as ``"mini"``, or a directory. A plain word
                that is the name of a shipped bundle means that one: write ``./mini`` for a
                directory of the same name.

        Raises:
            BundleError: There is no such bundle, a stage or file is missing, a file was changed,
                a path leaves the bundle, or the schema is too new. The text names the file.
        """
        root = _find(os.fspath(path_or_name))
        file = root / MANIFEST_NAME
        try:
            manifest = Manifest.from_json(_read_manifest(file))
            _check_stages(manifest)
        except BundleError as error:
            if error.file is not None:
                raise
            raise BundleError(error.what, file=file, remedy=error.remedy) from error
        bundle = cls(root, manifest)
        for name, record in manifest.files.items():
            _check_file(bundle.path(name), record)
        return bundle

    def path(self, name: str) -> Path:
        """Return the path of a file of the bundle, refusing every path that leaves it.

        Args:
            name: The file, relative to the bundle, with forward slashes.
        """
        _check_relative(name, self.root)
        path = self.root.joinpath(*PurePosixPath(name).parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise BundleError(
                f"the file {name!r} is a link that leads out of the bundle",
                file=self.root,
                remedy="replace the link by a copy of its file",
            )
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
    _check_target(target, overwrite)
    for name in files:
        _check_relative(name, target)
    listed = {
        name: FileSpec(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in files.items()
    }
    manifest = manifest.with_files(listed)
    _check_stages(manifest)
    try:
        _put(target, manifest, files)
    except OSError as error:
        raise BundleError(
            f"the bundle cannot be written ({error.strerror})",
            file=target,
            remedy="make room, or choose another directory",
        ) from error
    return Bundle.open(target.absolute())


def _put(target: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write all files aside, and rename the whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = Path(scratch) / "new"
        for name, content in files.items():
            path = fresh.joinpath(*PurePosixPath(name).parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (fresh / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)


def _find(text: str) -> Path:
    if is_shipped_name(text):
        return _SHIPPED / text
    path = Path(text)
    if path.is_dir():
        return path
    if path.exists():
        raise BundleError(
            "a bundle is a directory, this is a file",
            file=path,
            remedy="give the directory that 'foveate export' wrote",
        )
    known = ", ".join(shipped_bundles()) or "none"
    raise BundleError(
        "there is no such bundle", file=text, remedy=f"give a directory or a shipped name ({known})"
    )


def _read_manifest(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError("the manifest is larger than 16 MiB", file=file)
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BundleError(
            "the directory is no bundle: it has no manifest",
            file=file,
            remedy="give the directory that 'foveate export' wrote",
        ) from error
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


def _check_file(path: Path, record: FileSpec) -> None:
    again = "copy or export the bundle again"
    try:
        size = path.stat().st_size
        if size != record.size:
            what = f"a file has {size} bytes, the manifest says {record.size}"
            raise BundleError(what, file=path, remedy=again)
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        what = f"a file of the bundle cannot be read ({error.strerror})"
        raise BundleError(what, file=path, remedy=again) from error
    if found != record.sha256:
        what = f"a file was changed (SHA-256 {found[:12]}..., expected {record.sha256[:12]}...)"
        raise BundleError(what, file=path, remedy=again)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_NAME).is_file()):
        raise BundleError(
            "the target exists and is no bundle", file=target, remedy="choose another directory"
        )
    if not overwrite and any(target.iterdir()):
        raise BundleError(
            "the bundle exists already", file=target, remedy="remove it, or choose another name"
        )
