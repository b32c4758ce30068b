# SPDX-License-Identifier: Apache-2.0
"""Writing bundles, so that an interrupted writer leaves nothing incomplete."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foveate.bundle.bundle import Bundle, check_stages
from foveate.bundle.files import CARD_NAME, MANIFEST_NAME, check_relative, is_packaged, is_snapshot
from foveate.bundle.manifest import FileSpec, Manifest
from foveate.bundle.presets import PresetSpec
from foveate.errors import BundleError, InputError
from foveate.system.files import new_folder, write_file
from foveate.system.resources import remedy_of


def write_bundle(
    directory: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    card: Callable[[Manifest], str] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle to a directory.

    Args:
        directory: Target directory; missing parents are created.
        manifest: Manifest of the bundle; its list of files is computed from ``files``.
        files: Content of each file by its path in the bundle, with forward slashes.
        card: Returns the text of the model card, ``README.md``, for the complete manifest, which
            does not list the card: it may be edited.
        overwrite: Whether to replace an existing bundle. Nothing else is ever replaced.

    Returns:
        The bundle, opened and checked from disk.

    Raises:
        BundleError: The target is not a bundle, exists and may not be replaced, or cannot be
            written; or the bundle could not be opened. An existing bundle is then unchanged.
    """
    target = Path(directory)
    check_target(target, overwrite=overwrite)
    for name in files:
        check_relative(name, target)
    listed = {
        name: FileSpec(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in files.items()
    }
    manifest = replace(manifest, files=listed)
    check_stages(manifest)
    try:
        with new_folder(target, overwrite=overwrite) as fresh:
            for name, content in files.items():
                path = fresh.joinpath(*PurePosixPath(name).parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if card is not None:
                (fresh / CARD_NAME).write_text(card(manifest), encoding="utf-8")
            (fresh / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
            written = _open_fresh(fresh, target)
    except (OSError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.what
        what = f"the bundle cannot be written ({reason})"
        remedy = remedy_of(error, "choose another directory")
        raise BundleError(what, file=target, remedy=remedy) from error
    return replace(written, root=target.absolute())


def _open_fresh(fresh: Path, target: Path) -> Bundle:
    """Open a bundle before it replaces the one at ``target``, so that one that is refused does not."""
    try:
        return Bundle.open(fresh.absolute())
    except BundleError as error:
        what = f"the bundle is not written, since it could not be opened: {error.what}"
        raise BundleError(what, file=target, remedy=error.remedy) from error


def write_presets(bundle: Bundle, presets: Mapping[str, PresetSpec]) -> Bundle:
    """Replace the presets of a bundle; its networks stay as they are.

    Args:
        bundle: Bundle whose manifest is written again.
        presets: All presets of the bundle by name.

    Returns:
        The bundle, opened again.

    Raises:
        BundleError: The bundle is in the cache of the Hugging Face Hub or in this package, or a
            preset cannot be used.
        InputError: The manifest cannot be written.
    """
    shipped = is_packaged(bundle.root)
    if shipped or is_snapshot(bundle.root):
        place = "the package foveate" if shipped else "the cache of the Hugging Face Hub"
        what = f"the bundle is in {place}, which must not change"
        remedy = f"copy it: cp -rL {bundle.root} my-bundle"
        raise BundleError(what, file=bundle.root, remedy=remedy)
    text = replace(bundle.manifest, presets=dict(presets)).to_json()
    Manifest.from_json(text)  # before it replaces one that can be read
    write_file(bundle.root / MANIFEST_NAME, text.encode())
    return Bundle.open(bundle.root.absolute())


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to a directory.

    Raises:
        BundleError: The directory has other content, or a bundle that may not be replaced.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_NAME).is_file()):
        raise BundleError(
            "the target exists and is not a bundle", file=target, remedy="choose another directory"
        )
    if not overwrite and any(target.iterdir()):
        what = "the bundle already exists"
        remedy = "choose another directory, or allow overwriting it"
        raise BundleError(what, file=target, remedy=remedy)
