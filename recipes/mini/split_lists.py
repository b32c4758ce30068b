# SPDX-License-Identifier: Apache-2.0
"""Fill in the columns family and split of the lists, from the images themselves.

Run it after a line was added to `cutouts.csv` or `backgrounds.csv` or taken away:

    python recipes/mini/split_lists.py PACKAGES

PACKAGES is the directory into which `fetch.py` unpacked the packages. It also writes
`validation.json` again, which carries the checksums of both lists. `named_cutouts.csv` gets the
families and splits of `cutouts.csv`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from compose import (
    FixedSet,
    assign_backgrounds,
    assign_cutouts,
    read_list,
    validation_options,
    write_list,
)
from foveate.system.regular_files import file_digest

HERE = Path(__file__).resolve().parent
CUTOUTS = HERE / "cutouts.csv"
NAMED_CUTOUTS = HERE / "named_cutouts.csv"
BACKGROUNDS = HERE / "backgrounds.csv"
COLUMNS = ("package", "path", "class", "family", "split")


def main() -> None:
    """Rewrite all lists and the file that fixes the validation set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    root = parser.parse_args().packages
    cutouts = assign_cutouts(read_list(CUTOUTS), root, min_members=5, min_families=3)
    write_list(CUTOUTS, cutouts, COLUMNS)
    known = {(one.package, one.path): one for one in cutouts}
    named = [
        replace(known[one.package, one.path], class_name=one.class_name)
        for one in read_list(NAMED_CUTOUTS)
    ]
    write_list(NAMED_CUTOUTS, named, COLUMNS)
    backgrounds = assign_backgrounds(read_list(BACKGROUNDS), root)
    write_list(BACKGROUNDS, backgrounds, ("package", "path", "kind", "family", "split"))
    FixedSet(
        images=500,
        seed=2026,
        split="validation",
        options=validation_options(),
        cutouts_sha256=file_digest(CUTOUTS),
        backgrounds_sha256=file_digest(BACKGROUNDS),
    ).write(HERE / "validation.json")


if __name__ == "__main__":
    main()
