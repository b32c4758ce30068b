# SPDX-License-Identifier: Apache-2.0
"""Get the Debian packages of `packages.csv` and compose the data set `mini` from them.

    python recipes/mini/fetch.py FOLDER

It needs apt-get and dpkg-deb and package lists of Debian 12, but no administrator: nothing is
installed. FOLDER then holds

    debs/                     the packages (1.6 GB), each with the SHA-256 of `packages.csv`
    packages/PACKAGE/         the packages, unpacked
    mini/{train,validation}/  the data set, in COCO's format

What is there already is not fetched, unpacked or composed again.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import DataError, FoveateError
from foveate.training.compose import (
    FixedSet,
    Sources,
    sha256_of,
    training_options,
    write_dataset,
)

HERE = Path(__file__).resolve().parent
TRAINING_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of an exact content."""

    name: str
    version: str
    sha256: str


def read_packages(file: Path) -> list[Package]:
    """The packages that the lists draw from."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [
            Package(name=row["package"], version=row["version"], sha256=row["sha256"])
            for row in csv.DictReader(stream)
        ]


def fetch(package: Package, folder: Path) -> Path:
    """Download a package into a folder, unless it is there; either way, check it."""
    version = package.version.replace(":", "%3a")  # as apt-get names files
    found = sorted(folder.glob(f"{package.name}_{version}_*.deb"))
    if not found:
        run("apt-get", "download", f"{package.name}={package.version}", folder=folder)
        found = sorted(folder.glob(f"{package.name}_{version}_*.deb"))
    if not found or sha256_of(found[0]) != package.sha256:
        raise DataError(
            f"the package {package.name} {package.version} is not the expected one",
            file=found[0] if found else folder,
            remedy="delete it and fetch it again, or take the file from a Debian archive",
        )
    return found[0]


def unpack(package: Package, deb: Path, folder: Path) -> None:
    """Unpack a package aside, and rename it once it is complete."""
    target = folder / package.name
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        content = Path(aside) / "content"
        run("dpkg-deb", "-x", str(deb), str(content), folder=folder)
        content.rename(target)


def run(tool: str, *arguments: str, folder: Path) -> None:
    """Run a program in a folder; its output is shown."""
    program = shutil.which(tool)
    if program is None:
        raise DataError(f"{tool} was not found", remedy="run this on Debian or in its container")
    result = subprocess.run([program, *arguments], cwd=folder, check=False)
    if result.returncode:
        raise DataError(
            f"{tool} {' '.join(arguments)} ended with status {result.returncode}",
            remedy="run `apt-get update`; versions are those of Debian 12",
        )


def compose(folder: Path, packages: Path, pictures: int, workers: int) -> None:
    """Compose the validation set and then the training set."""
    sources = Sources(
        cutouts=HERE / "cutouts.csv", backgrounds=HERE / "backgrounds.csv", packages=packages
    )
    fixed = FixedSet.read(HERE / "validation.json")
    fixed.check(sources)
    plans = (
        (fixed.split, fixed.options, fixed.pictures, fixed.seed),
        ("train", training_options(), pictures, TRAINING_SEED),
    )
    for split, options, count, seed in plans:
        if not (folder / split).exists():
            library = sources.load(split)
            write_dataset(
                folder / split, library, options, pictures=count, seed=seed, workers=workers
            )
        sys.stdout.write(f"{folder / split}: ready\n")


def main() -> None:
    """Fetch, unpack, compose."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=8000, help="for training (8000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--packages-only", action="store_true", help="compose nothing")
    arguments = parser.parse_args()
    debs, packages = arguments.folder / "debs", arguments.folder / "packages"
    try:
        for folder in (debs, packages):
            folder.mkdir(parents=True, exist_ok=True)
        for package in read_packages(HERE / "packages.csv"):
            unpack(package, fetch(package, debs.resolve()), packages.resolve())
        if not arguments.packages_only:
            compose(arguments.folder / "mini", packages, arguments.pictures, arguments.workers)
    except FoveateError as error:
        sys.exit(f"fetch.py: {error}")


if __name__ == "__main__":
    main()
