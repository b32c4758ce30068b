# SPDX-License-Identifier: Apache-2.0
"""Bundles on the Hugging Face Hub, such as ``hf://owner/name@v1``."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from foveate.bundle.files import HUB_SCHEME, MANIFEST_NAME, check_relative, read_manifest
from foveate.bundle.manifest import Manifest
from foveate.errors import BundleError, FoveateError, MissingExtraError, ServerError
from foveate.system.regular_files import file_digest
from foveate.system.resources import remedy_of

_NAME = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s#]+))?(#sha256=(?P<sha256>[0-9a-f]{64}))?",
    re.ASCII,
)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubName:
    """Name of a bundle on the Hub: ``hf://owner/name``, ``@revision``, ``#sha256=digest``.

    Args:
        repository: Its owner and name with a slash between them.
        revision: Branch, tag or complete commit; the branch ``main`` if None.
        sha256: SHA-256 of ``manifest.json``, and thereby of every file; None to accept any.
    """

    repository: str
    revision: str | None = None
    sha256: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Parse a name.

        Raises:
            BundleError: It is malformed.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            what = "the name of a bundle on the Hugging Face Hub is malformed"
            remedy = "write hf://owner/name, then @revision and #sha256=(64 digits) if wanted"
            raise BundleError(what, file=text, remedy=remedy)
        return cls(**found.groupdict())

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        checksum = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"{HUB_SCHEME}{self.repository}{revision}{checksum}"


def pin_commit(text: str) -> str:
    """Download a bundle, and return its name with the commit as the revision.

    The name means the same files forever, and no longer needs the network.

    Args:
        text: See :class:`HubName`.

    Raises:
        BundleError: There is no such bundle, it has another checksum, or its manifest is damaged.
        ServerError: The Hub cannot be reached, or a download failed.
    """
    name = HubName.parse(text)
    return str(replace(name, revision=fetch_bundle(name).name))


def fetch_bundle(name: HubName) -> Path:
    """Return the directory of a bundle in the cache of the Hub, after downloading what it lacks.

    Only the files that the manifest lists are downloaded. They are not checked here.

    Raises:
        BundleError: There is no such bundle, it has another checksum, or its manifest is damaged.
        ServerError: The Hub cannot be reached, or a download failed.
        MissingExtraError: The package ``huggingface-hub`` is not installed.
    """
    manifest = _download(name, MANIFEST_NAME)
    root, digest = manifest.parent, file_digest(manifest)
    if name.sha256 not in (None, digest):
        what = f"the manifest has the SHA-256 {digest}, expected {name.sha256}"
        remedy = "use the revision that the checksum was taken from, or omit the checksum"
        raise BundleError(what, file=str(name), remedy=remedy)
    pinned = replace(name, revision=root.name)
    if name.revision != root.name:
        _logger.info("%s is %s", name, replace(pinned, sha256=digest))
    for file in _listed_files(pinned, root):
        _download(pinned, file)
    return root


def _listed_files(name: HubName, root: Path) -> list[str]:
    """Return the files that the manifest of a bundle lists, none of which leaves the bundle."""
    try:
        files = list(Manifest.from_json(read_manifest(root)).files)
    except BundleError as error:
        raise BundleError(error.what, file=str(name), remedy=error.remedy) from error
    for file in files:
        check_relative(file, root)
    return files


def _download(name: HubName, file: str) -> Path:
    """Return the path of a file in the cache."""
    try:
        hub = import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingExtraError("huggingface_hub", "hub") from error
    try:
        path = hub.hf_hub_download(
            name.repository, file, revision=name.revision, library_name="foveate"
        )
    except Exception as error:
        raise _explained(error, name, file, hub) from error
    return Path(path)


def _explained(error: Exception, name: HubName, file: str, hub: Any) -> FoveateError:
    """Return what an error of a download means to the user."""
    log_in = "run 'hf auth login' or set HF_TOKEN"
    no_repository = "there is no such repository", f"check the name; for a private one, {log_in}"
    refusals = {  # a gated repository is a subclass of one that is not found
        "GatedRepoError": ("the repository is gated", f"request access on its page, then {log_in}"),
        "RepositoryNotFoundError": no_repository,
        "HFValidationError": no_repository,
        "RevisionNotFoundError": (
            f"the repository has no revision {name.revision!r}",
            "pass a branch, a tag or a complete commit",
        ),
        "RemoteEntryNotFoundError": (
            f"the repository is not a bundle, or not a complete one: it has no {file}",
            "upload the directory that 'foveate export' wrote",
        ),
    }
    for kind, (what, remedy) in refusals.items():
        if isinstance(error, getattr(hub.errors, kind)):
            return BundleError(what, file=str(name), remedy=remedy)
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        what, remedy = f"the cache lacks {file}", "download the bundle without HF_HUB_OFFLINE"
        if not hub.constants.HF_HUB_OFFLINE:
            what = f"the Hugging Face Hub cannot be reached ({_reason(error.__cause__ or error)})"
            remedy = "check the network, or HF_ENDPOINT if it is set"
        return ServerError(what, file=str(name), remedy=remedy)
    if isinstance(error, OSError) and error.errno:
        what = f"the download cannot be stored ({error.strerror})"
        remedy = remedy_of(error, "set HF_HUB_CACHE to another directory")
        return BundleError(what, file=error.filename, remedy=remedy)
    what = f"the download of {file} failed ({_reason(error)})"
    return ServerError(what, file=str(name), remedy="run it again: complete files are kept")


def _reason(error: BaseException) -> str:
    """Return the first line of an error."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
