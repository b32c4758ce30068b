# SPDX-License-Identifier: Apache-2.0
"""Libraries from directories or lists, and data sets whose options a file fixes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compose.families import assign_backgrounds, assign_cutouts
from compose.library import Library, by_family, load_background, load_cutout
from compose.lists import Entry, find_backgrounds, find_cutouts, read_list
from compose.options import ComposeOptions, options_from_json
from foveate.errors import DataError
from foveate.system.regular_files import file_digest


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The places of cut-outs and backgrounds.

    Args:
        cutouts: A directory with one directory per class, or a `.csv` list.
        backgrounds: A directory, or a `.csv` list.
        packages: Root of the paths of the lists; None for the directory of each list.
        class_names: Class names in the order of category ids; by default those of the cut-outs. A
            class may have no cut-out.
    """

    cutouts: Path
    backgrounds: Path
    packages: Path | None = None
    class_names: tuple[str, ...] = ()

    def load(self, split: str = "") -> Library:
        """Decode the cut-outs and backgrounds of a split, or all of them.

        A directory is split by families, see `assign_cutouts`; a list has a column for the split.

        Raises:
            DataError: Something cannot be used.
        """
        if self.cutouts.suffix == ".csv":
            cutouts = read_list(self.cutouts)
        else:
            cutouts = find_cutouts(self.cutouts)
            cutouts = assign_cutouts(cutouts, self.cutouts) if split else cutouts
        if self.backgrounds.suffix == ".csv":
            backgrounds = read_list(self.backgrounds)
        else:
            backgrounds = find_backgrounds(self.backgrounds)
            backgrounds = (
                assign_backgrounds(backgrounds, self.backgrounds) if split else backgrounds
            )
        # Of the whole list: ids must not depend on the split.
        names = self.class_names or tuple(sorted({entry.class_name for entry in cutouts}))
        cutouts = _of(split, cutouts, self.cutouts)
        backgrounds = _of(split, backgrounds, self.backgrounds)
        roots = self._root(self.cutouts), self._root(self.backgrounds)
        with ThreadPoolExecutor(2) as pool:
            things = list(pool.map(lambda entry: load_cutout(entry, roots[0]), cutouts))
            scenes = list(pool.map(lambda entry: load_background(entry, roots[1]), backgrounds))
        kinds = sorted({entry.class_name for entry in backgrounds})
        return Library(
            class_names=names,
            cutouts=tuple(by_family(name, things) for name in names),
            backgrounds=tuple(by_family(kind, scenes) for kind in kinds),
        )

    def _root(self, named: Path) -> Path:
        if named.suffix != ".csv":
            return named
        return self.packages if self.packages is not None else named.parent


def _of(split: str, entries: list[Entry], source: Path) -> list[Entry]:
    chosen = [entry for entry in entries if split in ("", entry.split)]
    if not chosen:
        known = ", ".join(sorted({entry.split for entry in entries if entry.split})) or "none"
        raise DataError(f"no entry is of the split {split!r}, the splits are: {known}", file=source)
    return chosen


@dataclass(frozen=True, kw_only=True)
class FixedSet:
    """A data set whose images are reproduced bit for bit from a committed file.

    Args:
        images: Number of images.
        seed: Seed of every draw.
        split: Part of the lists.
        options: Everything else.
        cutouts_sha256: SHA-256 of the list of cut-outs.
        backgrounds_sha256: SHA-256 of the list of backgrounds.
    """

    images: int
    seed: int
    split: str
    options: ComposeOptions
    cutouts_sha256: str
    backgrounds_sha256: str

    @classmethod
    def read(cls, file: Path) -> FixedSet:
        """Read what `write` wrote.

        Raises:
            DataError: The file cannot be read, or has missing or unknown fields.
        """
        try:
            values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
            return cls(**values | {"options": options_from_json(values["options"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the definition of the data set cannot be read ({error})",
                file=file,
                remedy="take the recipe's own validation.json as an example",
            ) from error

    def write(self, file: Path) -> None:
        """Write the file that `read` reads."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def check(self, sources: Sources) -> None:
        """Check that the lists are those that the data set was made from.

        Raises:
            DataError: A list differs.
        """
        for file, expected in (
            (sources.cutouts, self.cutouts_sha256),
            (sources.backgrounds, self.backgrounds_sha256),
        ):
            found = file_digest(file) if file.is_file() else "no file"
            if found != expected:
                raise DataError(
                    f"the list differs from the one that the data set was made from: expected SHA-256 "
                    f"{expected}, found {found}",
                    file=file,
                    remedy="use the list of the same commit",
                )
