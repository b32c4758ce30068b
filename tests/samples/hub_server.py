# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face Hub: what ``hf_hub_download`` needs of its HTTP interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Hub:
    """Repositories, and the requests for their files.

    Args:
        repositories: Branches, tags and commits of each repository, with their commit.
        commits: Files of each commit by path.
        gated: Repositories to which nobody has access.
        cut: Files of which only the first half is sent.
        requests: Method and path of every request.
    """

    repositories: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def commit(self, repository: str, files: dict[str, bytes], *revisions: str) -> str:
        """Add a commit with complete files, to which the revisions point from now on."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(files.items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        name = digest.hexdigest()
        self.commits[name] = files
        pointers = self.repositories.setdefault(repository, {})
        pointers.update({name: name, **dict.fromkeys(revisions, name)})
        return name

    def upload(self, repository: str, folder: Path, *revisions: str) -> str:
        """Add a commit with the files of a directory, as ``hf upload`` does."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.commit(repository, files, *revisions)

    def downloads(self) -> list[str]:
        """Return the names of the files that were downloaded."""
        return [path.split("/", 5)[-1] for method, path in self.requests if method == "GET"]

    def find(self, path: str) -> tuple[str, str, bytes]:
        """Return the commit, the name and the content of ``/owner/name/resolve/revision/file``.

        Raises:
            LookupError: There is none, with the code that the Hub gives the reason.
        """
        owner, name, verb, revision, file = (*path.removeprefix("/").split("/", 4), *[""] * 4)[:5]
        repository = f"{owner}/{name}"
        if verb != "resolve":
            raise LookupError("")
        if repository in self.gated:
            raise LookupError("GatedRepo")
        if repository not in self.repositories:
            raise LookupError("RepoNotFound")
        commit = self.repositories[repository].get(unquote(revision))
        if commit is None:
            raise LookupError("RevisionNotFound")
        if unquote(file) not in self.commits[commit]:
            raise LookupError("EntryNotFound")
        return commit, file, self.commits[commit][unquote(file)]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve an empty hub on a free port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_content=False)

        def do_GET(self) -> None:
            self.answer(with_content=True)

        def answer(self, *, with_content: bool) -> None:
            hub.requests.append((self.command, self.path))
            try:
                commit, file, content = hub.find(self.path)
            except LookupError as error:
                self.send_response({"GatedRepo": 403, "RepoNotFound": 401}.get(str(error), 404))
                self.send_header("X-Error-Code", str(error))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            etag = hashlib.sha256(content).hexdigest()
            if with_content and file in hub.cut:
                content = content[: len(content) // 2]
            begin = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].rstrip("-"))
            self.send_response(206 if begin else 200)
            content = content[begin:]
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
