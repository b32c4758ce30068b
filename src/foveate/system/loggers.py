# SPDX-License-Identifier: Apache-2.0
"""Changes of loggers, which belong to the whole program, that are undone after a command or a call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_redirections = ExitStack()


def redirect_logger(name: str, handler: logging.Handler, level: int) -> None:
    """Send what a logger and those below it log to one handler, until ``loggers_restored`` ends."""
    logger = logging.getLogger(name)
    _redirections.callback(_set, logger, logger.handlers, logger.level, logger.propagate)
    _set(logger, [handler], level, False)


@contextmanager
def loggers_restored() -> Iterator[None]:
    """Undo every ``redirect_logger`` of a command, since other programs may run a command too."""
    with _redirections:
        yield


@contextmanager
def silenced_logger(name: str) -> Iterator[None]:
    """Silence a logger of another library, whose warnings do not concern the user."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _set(
    logger: logging.Logger, handlers: list[logging.Handler], level: int, propagate: bool
) -> None:
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
