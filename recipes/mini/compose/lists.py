# SPDX-License-Identifier: Apache-2.0
"""Sources of cut-outs and backgrounds: a directory, or a list in the recipe."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import DataError

_IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_ALPHA_IMAGES = frozenset({".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cut-out or one background.

    Args:
        path: Relative to the root, with forward slashes; this is what annotations quote.
        class_name: Class of a cut-out, or kind of a background. Classes and kinds
            are drawn equally often.
        family: Images of one thing share it.
        split: "train" or "validation"; empty where nobody has decided yet.
        package: The package that ships the file, or empty.
    """

    path: str
    class_name: str = ""
    family: str = ""
    split: str = ""
    package: str = ""

    def locate(self, root: Path) -> Path:
        """Return the file, below the root into which the packages were unpacked."""
        return root / self.package / self.path


def find_cutouts(root: Path) -> list[Entry]:
    """List the cut-outs below `root`; the name of the directory directly below it is the class.

    Raises:
        DataError: There is no class directory, or one of them holds no image.
    """
    folders = sorted(path for path in _listing(root) if path.is_dir())
    if not folders:
        raise DataError(
            "no class directory found",
            file=root,
            remedy="put cut-outs into one directory per class, ROOT/CLASS/NAME.png",
        )
    entries = []
    for folder in folders:
        files = _images(folder, _ALPHA_IMAGES)
        if not files:
            raise DataError(
                f"class directory without a cut-out ({', '.join(sorted(_ALPHA_IMAGES))})",
                file=folder,
                remedy="fill it or delete it",
            )
        entries += [
            Entry(path=file.relative_to(root).as_posix(), class_name=folder.name) for file in files
        ]
    return entries


def find_backgrounds(root: Path) -> list[Entry]:
    """List every image below `root`.

    Raises:
        DataError: There is none.
    """
    _listing(root)
    files = _images(root, _IMAGES)
    if not files:
        raise DataError(
            f"no background found ({', '.join(sorted(_IMAGES))})",
            file=root,
            remedy="put at least one image without objects there",
        )
    return [Entry(path=file.relative_to(root).as_posix()) for file in files]


def _listing(root: Path) -> list[Path]:
    try:
        return list(root.iterdir())
    except OSError as error:
        raise DataError(
            f"expected a directory ({error.strerror or error})",
            file=root,
            remedy="name an existing directory or a .csv list",
        ) from error


def _images(root: Path, suffixes: frozenset[str]) -> list[Path]:
    files = (path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in files if path.is_file())


def read_list(file: Path) -> list[Entry]:
    """Read a list as `write_list` writes it.

    Raises:
        DataError: The file cannot be read, lacks a column, or has no entry.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the list ({error})", file=file) from error
    if rows and not {"path", "family", "split"} <= set(rows[0]):
        raise DataError(
            f"expected the columns path, family and split, found {', '.join(rows[0])}",
            file=file,
            remedy="write the list with compose.write_list",
        )
    entries = [
        Entry(
            path=row["path"],
            class_name=row.get("class") or row.get("kind") or "",
            family=row["family"],
            split=row["split"],
            package=row.get("package") or "",
        )
        for row in rows
    ]
    if not entries:
        raise DataError("the list has no entry", file=file)
    return entries


def write_list(file: Path, entries: Iterable[Entry], columns: Sequence[str]) -> None:
    """Write a list: `columns` are of package, path, class or kind, family, split."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for entry in entries:
            values = {
                "package": entry.package,
                "path": entry.path,
                "class": entry.class_name,
                "kind": entry.class_name,
                "family": entry.family,
                "split": entry.split,
            }
            writer.writerow([values[column] for column in columns])
