# SPDX-License-Identifier: Apache-2.0
"""Options of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass

from foveate.errors import OptionError
from foveate.images.decoding import MAX_PIXELS
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD
from foveate.typed_options import TypedOptions


@dataclass(frozen=True, kw_only=True)
class ServeOptions(TypedOptions):
    """Options of the server, whatever program hosts it.

    At most ``workers`` times ``slots`` images are processed and ``queue`` requests wait, so that the
    bodies in memory take at most the sum of both times ``max_bytes``.

    Args:
        model: Name of the model in the Open Inference Protocol.
        workers: Number of pipelines, which share nothing. Each takes memory of its own.
        slots: Number of images that each pipeline processes at a time; by default 1 on the CPU, whose
            cores a second image would only share, and 2 on a GPU.
        queue: Number of requests that wait for a slot; further ones are refused with 429. By default
            as many as there are slots, so that a request takes at most about twice its time.
        timeout: Seconds from the head of a request to its answer; then the answer is 504.
        read_timeout: Seconds in which a body must arrive; then the answer is 408.
        max_bytes: Largest body in bytes.
        max_pixels: Largest image in pixels, which is checked before it is decoded.
        score_threshold: Smallest score of an object, unless a request has its own.
        kept_requests: Number of the latest requests whose work is kept for a trace.
        keys: Keys of which a client must send one (``Authorization: Bearer KEY``); empty for none.
        hosts: Names by which clients may address the server (``Host``); empty for any. A server that
            needs no key and listens to this machine only should name it, since a page of the web
            could otherwise reach it through the browser by a name of its own.
        origins: Origins of pages of other servers that may send requests; empty for none.

    Raises:
        OptionError: A value has the wrong type or lies outside its range.
    """

    model: str = "foveate"
    workers: int = 1
    slots: int | None = None
    queue: int | None = None
    timeout: float = 30.0
    read_timeout: float = 10.0
    max_bytes: int = 32 << 20
    max_pixels: int = 50_000_000
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    kept_requests: int = 0
    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least(workers=1, slots=1, queue=0, max_bytes=1, kept_requests=0)
        for name in ("timeout", "read_timeout"):
            value = getattr(self, name)
            if value <= 0:
                raise OptionError(f"{name} must be above 0, found {value:g}")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise OptionError(f"max_pixels must lie in 1..{MAX_PIXELS}, found {self.max_pixels}")
        if not 0 <= self.score_threshold <= 1:
            raise OptionError(f"score_threshold must lie in 0..1, found {self.score_threshold}")
        if not re.fullmatch(r"[\w.-]{1,100}", self.model, re.ASCII):
            raise OptionError(
                "model must have 1 to 100 letters, digits, dots, dashes or underscores, found "
                f"{self.model!r:.120}"
            )
        for origin in self.origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
                raise OptionError(
                    "origins must have a scheme, a host and perhaps a port, and nothing else, found "
                    f"{origin!r:.120}",
                    remedy="write it as browsers send it, such as https://example.org",
                )
