# SPDX-License-Identifier: Apache-2.0
"""Exceptions of Foveate, arranged by who can fix the cause.

::

    FoveateError
    ├── InputError             an image or another file of the user
    ├── OptionError            an argument or option with an invalid value
    ├── BundleError            a bundle that is damaged, incomplete, unsafe or too new
    ├── BackendError           a device, engine or library that does not work on this machine
    │   ├── OutOfMemoryError   a device without enough memory
    │   └── MissingExtraError  an optional dependency that is not installed
    ├── ServerError            a server that cannot be reached, or does not answer as it should
    ├── DataError              a data set: annotations, cut-outs, backgrounds
    └── ModelError             a network, its checkpoint or its export

Every message states what was found, where, and what to do. Any other exception that Foveate raises
is a bug.
"""

from __future__ import annotations

from os import PathLike, fspath

__all__ = [
    "BackendError",
    "BundleError",
    "DataError",
    "FoveateError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutOfMemoryError",
    "ServerError",
]


class FoveateError(Exception):
    """Base class of all errors that Foveate raises.

    Args:
        what: Description of the error, with the expected and the found value.
        file: File or directory that the error concerns.
        remedy: Action that fixes the cause.

    The message is ``what: file: remedy``, on one line, without the parts that are absent.
    """

    def __init__(
        self, what: str, *, file: str | PathLike[str] | None = None, remedy: str | None = None
    ) -> None:
        self.what = what
        self.file = None if file is None else fspath(file)
        self.remedy = remedy
        parts = (what, self.file, remedy)
        super().__init__(": ".join(" ".join(part.split()) for part in parts if part))


class InputError(FoveateError):
    """An image or another file of the user cannot be used."""


class OptionError(FoveateError):
    """An argument or option has an invalid value."""


class BundleError(FoveateError):
    """A bundle is damaged, incomplete, unsafe or too new."""


class BackendError(FoveateError):
    """A device, engine or library does not work on this machine."""


class OutOfMemoryError(BackendError):
    """A device does not have enough memory."""


class MissingExtraError(BackendError):
    """An optional dependency is not installed.

    Args:
        module: Name of the module that could not be imported.
        extra: Extra of the package ``foveate`` that installs it.
    """

    def __init__(self, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__(
            f"the module {module!r} is not installed", remedy=f"run: pip install 'foveate[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.module, self.extra)


class ServerError(FoveateError):
    """A server cannot be reached, or does not answer as its protocol requires."""


class DataError(FoveateError):
    """A data set, its annotations or its source images cannot be used."""


class ModelError(FoveateError):
    """A network cannot be built, loaded from its checkpoint or exported."""
