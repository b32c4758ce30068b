# SPDX-License-Identifier: Apache-2.0
"""Get the Debian packages of `packages.csv`, and make the data sets of `mini` from them.

    python recipes/mini/fetch.py DIRECTORY [--blender PYTHON] [--photographs FOLDER]

It needs apt-get and dpkg-deb and package lists of Debian 12, but no administrator: nothing is
installed. DIRECTORY then holds

    debs/                     the packages (1.8 GB), each with the SHA-256 of `packages.csv`
    packages/PACKAGE/         the packages, unpacked
    mini/{train,validation}/  composed images, in COCO's format
    named/{train,validation}/ the same of the cut-outs that have a name among the classes of
                              photographs, with these classes
    photographs/train/        variants of photographs, on which objects of others are pasted
    photographs/validation/   other photographs
    rooms/{train,validation}/ rendered scenes, in COCO's format, of one class `thing`

The scenes are rendered only where `--blender` names an interpreter with `bpy` 4.2 (the wheel of
Blender, 500 MB; it needs Python 3.11): about four seconds per scene on one core. Objects of photographs
are pasted only where `--photographs` names a data set in COCO's layout; see `paste_photographs.py`.

What is there already is not fetched, unpacked or composed again.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paste_photographs import SEED as PASTE_SEED
from paste_photographs import Parts

from compose import (
    CLASS_NAMES,
    ComposeOptions,
    Composition,
    FixedSet,
    Sources,
    training_options,
    validation_options,
    write_dataset,
)
from foveate.errors import DataError, FoveateError
from foveate.system.regular_files import file_digest

HERE = Path(__file__).resolve().parent
BACKGROUNDS = HERE / "backgrounds.csv"
TRAINING_SEED = 1
NAMED_TRAINING_SEED = 2
NAMED_VALIDATION_SEED = 2027
NAMED_VALIDATION_IMAGES = 250
# MultiPathNet learns from the first few hundred.
MOST_NAMED_IMAGES = 1000
SCENES = 400
# Number of the first scene of each set; sets are rendered side by side, in a process each.
SCENE_SETS = (0, 1000)
FURNITURE = "sweethome3d-furniture/usr/share/sweethome3d/furniture"


# Split, options, number of images and seed of each part of a data set.
Plans = Sequence[tuple[str, ComposeOptions, int, int]]


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of an exact content."""

    name: str
    version: str
    sha256: str


def read_packages(file: Path) -> list[Package]:
    """Return the packages that the lists refer to."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [
            Package(name=row["package"], version=row["version"], sha256=row["sha256"])
            for row in csv.DictReader(stream)
        ]


def fetch(package: Package, folder: Path) -> Path:
    """Download a package into a directory, unless it is there; either way, check it."""
    version = package.version.replace(":", "%3a")  # as apt-get names files
    found = sorted(folder.glob(f"{package.name}_{version}_*.deb"))
    if not found:
        run("apt-get", "download", f"{package.name}={package.version}", folder=folder)
        found = sorted(folder.glob(f"{package.name}_{version}_*.deb"))
    if not found or file_digest(found[0]) != package.sha256:
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
    """Run a program in a directory; its output is shown."""
    program = shutil.which(tool)
    if program is None:
        raise DataError(f"{tool} was not found", remedy="run this on Debian or in its container")
    result = subprocess.run([program, *arguments], cwd=folder, check=False)
    if result.returncode:
        raise DataError(
            f"{tool} {' '.join(arguments)} ended with status {result.returncode}",
            remedy="run `apt-get update`; versions are those of Debian 12",
        )


def compose(folder: Path, packages: Path, images: int, workers: int) -> None:
    """Compose both data sets, the validation part of each first."""
    sources = Sources(cutouts=HERE / "cutouts.csv", backgrounds=BACKGROUNDS, packages=packages)
    fixed = FixedSet.read(HERE / "validation.json")
    fixed.check(sources)
    plans = (
        (fixed.split, fixed.options, fixed.images, fixed.seed),
        ("train", training_options(), images, TRAINING_SEED),
    )
    compose_parts(folder / "mini", sources, plans, workers)
    sources = Sources(
        cutouts=HERE / "named_cutouts.csv",
        backgrounds=BACKGROUNDS,
        packages=packages,
        class_names=CLASS_NAMES,
    )
    plans = (
        ("validation", validation_options(), NAMED_VALIDATION_IMAGES, NAMED_VALIDATION_SEED),
        ("train", training_options(), min(images, MOST_NAMED_IMAGES), NAMED_TRAINING_SEED),
    )
    compose_parts(folder / "named", sources, plans, workers)


def compose_parts(folder: Path, sources: Sources, plans: Plans, workers: int) -> None:
    """Compose the parts of a data set that are not there yet."""
    for split, options, count, seed in plans:
        if not (folder / split).exists():
            library = sources.load(split)
            scenes = Composition(library=library, options=options, seed=seed)
            write_dataset(folder / split, scenes, images=count, workers=workers)
        sys.stdout.write(f"{folder / split}: ready\n")


def render(folder: Path, packages: Path, blender: Path, scenes: int) -> None:
    """Render scenes of furniture, people and things, and make a data set of them."""
    rooms, libraries = folder / "rooms", folder / "furniture"
    if rooms.exists():
        return
    for archive in sorted((packages / FURNITURE).glob("*.sh3f")):
        with zipfile.ZipFile(archive) as content:
            content.extractall(libraries / archive.stem)
    textures, backdrops = folder / "textures.txt", folder / "backdrops.txt"
    with (HERE / "backgrounds.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    for listing, kinds in ((textures, {"texture", "photograph"}), (backdrops, {"photograph"})):
        paths = [packages / row["package"] / row["path"] for row in rows if row["kind"] in kinds]
        listing.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")

    def render_set(first: int) -> None:
        script, parts = HERE / "rendering" / "render.py", (libraries, textures, folder / "scenes")
        numbers = (str(first), str(first + scenes))
        run(
            str(blender),
            str(script),
            *(str(part.resolve()) for part in parts),
            *numbers,
            folder=folder,
        )

    with ThreadPoolExecutor() as pool:
        list(pool.map(render_set, SCENE_SETS))
    script = HERE / "rooms.py"
    run(
        sys.executable,
        *(str(path.resolve()) for path in (script, folder / "scenes", backdrops, textures, rooms)),
        folder=folder,
    )
    sys.stdout.write(f"{rooms}: ready\n")


def main() -> None:
    """Fetch, unpack, compose, paste, render."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8000, help="for training (8000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--blender", type=Path, help="an interpreter with bpy: render scenes too")
    parser.add_argument(
        "--scenes", type=int, default=SCENES, help=f"of each of two sets ({SCENES})"
    )
    parser.add_argument(
        "--photographs", type=Path, help="a data set in COCO's layout: paste its objects too"
    )
    parser.add_argument("--packages-only", action="store_true", help="compose nothing")
    arguments = parser.parse_args()
    debs, packages = arguments.folder / "debs", arguments.folder / "packages"
    pasted = arguments.folder / "photographs"
    try:
        parts = None
        if arguments.photographs and not (pasted.exists() or arguments.packages_only):
            # First, so that photographs that cannot be used are known before hours of work.
            parts = Parts.open(arguments.photographs, PASTE_SEED)
        for folder in (debs, packages):
            folder.mkdir(parents=True, exist_ok=True)
        for package in read_packages(HERE / "packages.csv"):
            unpack(package, fetch(package, debs.resolve()), packages.resolve())
        if not arguments.packages_only:
            compose(arguments.folder, packages, arguments.images, arguments.workers)
        if parts is not None:
            parts.write(pasted, workers=arguments.workers)
        if arguments.blender and not arguments.packages_only:
            render(arguments.folder, packages, arguments.blender, arguments.scenes)
    except FoveateError as error:
        sys.exit(f"fetch.py: {error}")


if __name__ == "__main__":
    main()
