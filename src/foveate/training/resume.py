# SPDX-License-Identifier: Apache-2.0
"""Files of a resumable training run: the state of the loop, and the origin of each file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from foveate.errors import FoveateError, ModelError
from foveate.system.files import open_output, write_file
from foveate.system.regular_files import open_regular
from foveate.system.resources import remedy_of

_log = logging.getLogger(__name__)

REMEDY = "delete it to start again"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Everything that a file of a training run depends on, in values that JSON can represent.

    Args:
        inputs: Data that it was computed from, by name, such as digests of images and annotations.
            If they have changed, the file is reported and computed anew.
        options: Options of the user. A file made with others is rejected, since a mistyped option
            must not cost a week of training.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return the stored form, as JSON reads it back."""
        return dict(json.loads(json.dumps(asdict(self))))

    def accepts(self, found: Any, file: Path) -> bool:
        """Return whether a file has this origin; if its inputs have changed, log a line.

        ``found`` is what ``content`` returned when the file was made.

        Raises:
            OtherOptionsError: The file was made from the same inputs with other options.
        """
        wanted = self.content()
        # Inputs come first: options such as numbers of steps may follow from the data.
        if changed := _changed(found["inputs"], wanted["inputs"]):
            _log.warning(
                "%s changed since %s was made: it and its successors are made again",
                " and ".join(changed),
                file,
            )
            return False
        if found["options"] != wanted["options"]:
            own, asked = _flat(found["options"]), _flat(wanted["options"])
            changes = {name: (own.get(name), asked.get(name)) for name in _changed(own, asked)}
            raise OtherOptionsError(changes, file)
        return True


class OtherOptionsError(ModelError):
    """A file of a training run was made from the same inputs with other options.

    Args:
        changes: Value that the file was made with, and the present one, by the name of the option.
        path: The file.
    """

    def __init__(self, changes: Mapping[str, tuple[Any, Any]], path: Path) -> None:
        self.changes, self.path = changes, path
        parts = [f"{name} {own!r}, not {asked!r}" for name, (own, asked) in changes.items()]
        super().__init__(
            f"it was made with {', '.join(parts)}",
            file=path,
            remedy=f"{REMEDY}, resume with the same options, or choose another --output",
        )

    def named(self, flags: Mapping[str, str]) -> OtherOptionsError:
        """Return the error with the options as the user typed them.

        Args:
            flags: Options of the command line by the name in the file, which may lack the parts
                before its last dot, or have the stem of the file in front of it. Others follow from
                these, and are named only if none of these differs.
        """
        named = {}
        for name, change in self.changes.items():
            for key in (name, f"{self.path.stem}.{name}", name.rpartition(".")[2]):
                if key in flags:
                    named[flags[key]] = change
                    break
        return OtherOptionsError(named or self.changes, self.path)


def is_current(file: Path, origin: Origin) -> bool:
    """Return whether a file or directory exists and its stamp states that ``origin`` made it.

    Raises:
        ModelError: It was made with other options.
    """
    stamp = _stamp(file)
    if not file.exists():
        return False
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
        current = origin.accepts(found, file)
    except (OSError, ValueError, KeyError, TypeError):
        _log.warning("the inputs of %s are unknown: it is made again", file)
        current = False
    if not current:
        stamp.unlink(missing_ok=True)
    return current


def stamp(file: Path, origin: Origin) -> None:
    """Write the origin of a file or directory next to it."""
    write_file(_stamp(file), json.dumps(origin.content()).encode())


def _stamp(file: Path) -> Path:
    return file.with_name(f"{file.name}.origin.json")


def _changed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options by names with dots."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        parts = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}.{part}".rstrip("."): one for part, one in parts.items()}
    return flat


def check_replaceable(network: str, states: Collection[str], *files: Path) -> None:
    """Check that a run would replace no results but its own.

    Args:
        network: Name of the network whose checkpoints the files become. The names of the files
            tell its kind only, such as DeepMask.
        states: Names of files of which such a run leaves at least one next to its results.
        files: The results.

    Raises:
        ModelError: A file is a checkpoint of another network, or of a run that left no state.
    """
    remedy = "choose another --output, or move it away"
    for file in (one for one in files if one.exists()):
        found = _network_of(file)
        if found not in (network, None):
            what = f"it is a checkpoint of {found}, which the training of {network} would replace"
            raise ModelError(what, file=file, remedy=remedy)
        if not any(one.exists() for one in (_stamp(file), *map(file.with_name, states))):
            what = "no state of the run that made it is left, and the training would replace it"
            raise ModelError(what, file=file, remedy=remedy)


def _network_of(file: Path) -> str | None:
    """Return the name of the network of a checkpoint; None if the file is something else."""
    try:
        open_regular(file).close()  # safetensors would wait for the other end of a FIFO
        with safetensors.safe_open(file, "pt") as checkpoint:
            info = json.loads((checkpoint.metadata() or {})["info"])
        return str(info["proposals"] or info["classifier"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None


def fingerprint(network: nn.Module, without: str | None = None) -> str:
    """Return the first 12 digits of ``weights_digest``."""
    return weights_digest(network, without)[:12]


def weights_digest(network: nn.Module, without: str | None = None) -> str:
    """Return the SHA-256, in hexadecimal, of a network's weights.

    Weights whose names begin with ``without`` are left out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if without is None or not name.startswith(without):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ResumeFile:
    """The state of a training run on disk. It is replaced atomically, hence always complete.

    Args:
        path: Path of the file.
        origin: Everything that determines the result of the training.
    """

    path: Path
    origin: Origin

    def read(self) -> dict[str, Any] | None:
        """Return the state, its tensors on the CPU; None if there is none for these inputs.

        Raises:
            ModelError: The file is damaged, is another file, or was made with other options.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            int(state["step"])
            current = self.origin.accepts(state["origin"], self.path)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(
                "the training state cannot be read: the file is truncated or of another kind",
                file=self.path,
                remedy=REMEDY,
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                "the file does not contain a training run", file=self.path, remedy=REMEDY
            ) from error
        return dict(state) if current else None

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Replace the file with the state, tensors and plain values, after ``step`` finished steps.

        Raises:
            ModelError: The file cannot be written; the previous one stays.
        """
        try:
            with open_output(self.path) as file:
                torch.save({"step": step, "origin": self.origin.content(), **state}, file)
                file.flush()
                # Without this, a power cut may leave the new name with none of the new content.
                os.fsync(file.fileno())
        except (FoveateError, OSError, RuntimeError) as error:
            # PyTorch raises an error of its own while it handles that of the stream.
            hidden = error.__context__ if isinstance(error, RuntimeError) else None
            reason = hidden if isinstance(hidden, FoveateError) else error
            raise ModelError(
                f"the state of the training cannot be written after step {step} "
                f"({getattr(reason, 'what', reason)})",
                file=self.path,
                remedy=remedy_of(reason, "make the directory writable")
                + ", and start again: the run resumes from the last state",
            ) from error
