# SPDX-License-Identifier: Apache-2.0
"""What the files of a training were made from, so that none is taken for what it is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import ModelError
from foveate.system.files import write_file

_log = logging.getLogger(__name__)

REMEDY = "delete it to start anew"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What something that a training keeps depends on, in values that JSON can hold.

    Attributes:
        inputs: what it was computed from, by name, such as digests of images and annotations.
            Where they have changed, it is reported and computed anew.
        options: what the user asked for. With others it is refused, since a mistyped option must
            not cost a week of training.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Give what is stored, as JSON reads it back."""
        return dict(json.loads(json.dumps(asdict(self))))

    def accepts(self, found: Any, file: Path) -> bool:
        """Say whether a file was made from this; if its inputs have changed, log a line.

        Inputs come first: options such as numbers of steps may follow from the data.

        Args:
            found: what `content` gave when the file was made.
            file: the file, for the messages.

        Raises:
            ModelError: it was made from the same inputs with other options.
        """
        wanted = self.content()
        if changed := _changed(found["inputs"], wanted["inputs"]):
            _log.warning(
                "%s changed since %s was made: it and all that follow are made anew",
                " and ".join(changed),
                file,
            )
            return False
        if found["options"] != wanted["options"]:
            raise ModelError(
                f"it was made with {_difference(found['options'], wanted['options'])}",
                file=file,
                remedy=f"{REMEDY}, go on with the same options, or choose another --output",
            )
        return True


def is_current(file: Path, origin: Origin) -> bool:
    """Say whether a file or folder is there and was made from `origin`, by the stamp beside it.

    Raises:
        ModelError: it was made with other options.
    """
    stamp = _stamp(file)
    if not file.exists():
        return False
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
        current = origin.accepts(found, file)
    except (OSError, ValueError, KeyError, TypeError):
        _log.warning("it is not known what %s was made from: it is made anew", file)
        current = False
    if not current:
        stamp.unlink(missing_ok=True)
    return current


def stamp(file: Path, origin: Origin) -> None:
    """Write beside a file or folder what it was made from."""
    write_file(_stamp(file), json.dumps(origin.content()).encode())


def _stamp(file: Path) -> Path:
    return file.with_name(f"{file.name}.origin.json")


def _changed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    changed = _changed(found, wanted)
    return ", ".join(f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in changed)
