# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file per stage, checked when it is opened."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from foveate.bundle.external_data import external_files
from foveate.bundle.files import (
    AGAIN,
    HUB_SCHEME,
    MANIFEST_NAME,
    check_inside,
    check_relative,
    digest_of,
    identity_of,
    manifest_identity,
    open_file,
    read_manifest,
)
from foveate.bundle.manifest import FileSpec, Manifest
from foveate.bundle.signatures import check_signatures
from foveate.errors import BundleError, OptionError
from foveate.system.files import recover_folder

_SHIPPED = Path(__file__).parents[1] / "assets" / "bundles"
_ATTEMPTS = 200  # to read a bundle that other processes keep replacing

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
                ``"hf://owner/name"`` is downloaded from the Hugging Face Hub, unless it is in the
                cache; see :class:`foveate.bundle.hub.HubName`.

        Raises:
            BundleError: There is no such bundle, a stage or file is missing or not a regular file,
                a file has changed, a path leaves the bundle, a stage stores weights in a file that
                is not listed, or the schema is too new. The text names the file.
            ServerError: The Hub cannot be reached, or a download failed.
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
        check_inside(path, self.root)
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
        stream = open_file(path)
        if name in self.seen and identity_of(stream) != self.seen[name]:
            stream.close()
            raise BundleError("a file was replaced after its check", file=path, remedy=AGAIN)
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
        OptionError: ``path_or_name`` is neither a name nor a path.
        BundleError: There is no such bundle, or it is damaged.
        ServerError: The Hugging Face Hub cannot be reached, or a download failed.
    """
    if not path_or_name or not isinstance(path_or_name, (str, os.PathLike)):
        found = "an empty text" if path_or_name == "" else type(path_or_name).__name__
        what = f"a bundle must be a name or a path, found {found}"
        raise OptionError(what, remedy="pass a name such as mini, or the path of a directory")
    # A writer exchanges the whole directory, so that files of two bundles can be read in one attempt.
    for _ in range(_ATTEMPTS):
        root = _find(os.fspath(path_or_name))
        before = manifest_identity(root)
        try:
            return read(_open_bundle(root))
        except BundleError:
            # The error may come from a mix of the old and the new bundle.
            if manifest_identity(root) == before:
                raise
    raise BundleError("the bundle keeps being replaced", file=root, remedy="try again later")


def _open_bundle(root: Path) -> Bundle:
    file = root / MANIFEST_NAME
    try:
        manifest = Manifest.from_json(read_manifest(root))
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
    if text.startswith(HUB_SCHEME):
        # Its import would delay the other bundles.
        from foveate.bundle.hub import HubName, fetch_bundle  # noqa: PLC0415 - see above

        return fetch_bundle(HubName.parse(text))
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
    remedy = f"pass a directory, a shipped name ({known}), or hf://owner/name"
    raise BundleError("there is no such bundle", file=text, remedy=remedy)


def check_stages(manifest: Manifest) -> None:
    """Check that the manifest lists the file of every stage, and tensors that the pipeline uses."""
    for name, stage in manifest.stages.items():
        if stage.file not in manifest.files:
            what = f"the file {stage.file!r} of the stage {name!r} has no checksum in the manifest"
            raise BundleError(what, remedy="export the bundle again")
    check_signatures(manifest)


def _check_file(bundle: Bundle, name: str, record: FileSpec, stage: str | None) -> tuple[int, ...]:
    """Compare a file with its record and return its identity."""
    path = bundle.path(name)
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != record.size:
            what = f"a file has {size} bytes, the manifest lists {record.size}"
            raise BundleError(what, file=path, remedy=AGAIN)
        found = digest_of(stream, size)
        if found != record.sha256:
            what = f"a file was changed (SHA-256 {found[:12]}..., expected {record.sha256[:12]}...)"
            raise BundleError(what, file=path, remedy=AGAIN)
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
        return identity_of(stream)
