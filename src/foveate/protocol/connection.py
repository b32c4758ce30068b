# SPDX-License-Identifier: Apache-2.0
"""A connection to an HTTP server that stays open between requests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from urllib.parse import quote, urlsplit

from foveate.errors import OptionError, ServerError


@dataclass(frozen=True, kw_only=True)
class ServerUrl:
    """Where a server listens.

    Args:
        secure: Whether it speaks TLS.
        host: Name or address of the host.
        port: Port of the host.
        path: Path before that of each request; empty, or with a slash at its begin only.
    """

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Return the parts of a URL such as ``http://localhost:8000``.

        Raises:
            OptionError: It is not a URL of HTTP, or has parts that are not used.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            what = f"the URL {text!r:.100} cannot be read ({error})"
            raise OptionError(what, remedy="pass one such as http://localhost:8000") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(
                f"a URL must begin with http:// or https:// and name a host, found {text!r:.100}",
                remedy="pass the port for HTTP, such as http://localhost:8000",
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise OptionError(
                "the URL has a user, a query or a fragment, which are not sent",
                remedy="pass scheme, host, port and path only",
            )
        secure = parts.scheme == "https"
        return cls(
            secure=secure,
            host=parts.hostname,
            port=(443 if secure else 80) if port is None else port,
            path=quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;="),
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request.

    Args:
        status: Status of HTTP.
        headers: Headers, with names in lower case.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A connection that one thread uses at a time; it is opened by the first request.

    Args:
        url: Where the server listens.
        timeout: Seconds for which the server may send nothing while it is waited for.
    """

    def __init__(self, url: ServerUrl, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        kind = HTTPSConnection if url.secure else HTTPConnection
        self._http = kind(url.host, url.port, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Servers close connections that are idle for some seconds. If the connection turns out to be
        closed, the request is sent once more over a new one.

        Args:
            method: Method of HTTP.
            path: Path after that of the URL.
            body: Body of the request.
            headers: Further headers.
            on_sent: Called when the whole request was handed to the system.

        Raises:
            ServerError: The server cannot be reached, does not answer in time, or does not speak
                HTTP.
        """
        reused = self._http.sock is not None
        try:
            try:
                return self._exchange(method, path, body, headers or {}, on_sent)
            except ConnectionError:
                if not reused:
                    raise
                self._http.close()
                return self._exchange(method, path, body, headers or {}, on_sent)
        except (OSError, HTTPException, UnicodeError) as error:  # the last for names of hosts
            self._http.close()
            raise self._explain(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        on_sent: Callable[[], None] | None,
    ) -> Answer:
        self._http.request(method, self._url.path + path, body, dict(headers))
        if on_sent is not None:
            on_sent()
        response = self._http.getresponse()
        content = response.read()
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=content,
        )

    def _explain(self, error: OSError | HTTPException | UnicodeError) -> ServerError:
        if isinstance(error, TimeoutError):
            return ServerError(
                f"{self._url} sent nothing for {self._timeout:g} s",
                remedy="check the URL and the server's log, or raise --timeout",
            )
        if isinstance(error, (socket.gaierror, UnicodeError)):
            reason = error.strerror if isinstance(error, OSError) else "not a valid name"
            what = f"the host {self._url.host!r:.100} is unknown ({reason})"
            return ServerError(what, remedy="check the URL")
        if isinstance(error, ConnectionRefusedError):
            what = f"nothing listens at {self._url}"
            return ServerError(what, remedy="start the server, or check host and port")
        if isinstance(error, ssl.SSLError):
            return ServerError(
                f"there is no secure connection to {self._url} ({error})",
                remedy="check that the server speaks TLS, and that SSL_CERT_FILE names its issuer",
            )
        if isinstance(error, HTTPException) and not isinstance(
            error, (ConnectionError, IncompleteRead)
        ):
            return ServerError(
                f"what listens at {self._url} does not speak HTTP ({type(error).__name__})",
                remedy="check the port: the protocol is expected over HTTP, not gRPC",
            )
        return ServerError(
            f"the connection to {self._url} was lost ({str(error) or type(error).__name__})",
            remedy="look into the server's log",
        )
