# SPDX-License-Identifier: Apache-2.0
"""Loggers belong to the whole program: commands and calls leave them as they were."""

from __future__ import annotations

import ast
import logging

from tests.samples.paths import PACKAGE

from foveate.system.loggers import loggers_restored, redirect_logger, silenced_logger


def state(logger: logging.Logger) -> object:
    return logger.handlers, logger.level, logger.propagate, logger.disabled


def test_every_redirected_logger_is_restored() -> None:
    logger, handler = logging.getLogger("of.a.new.part"), logging.NullHandler()
    before = state(logger)
    with loggers_restored():
        redirect_logger(logger.name, handler, logging.DEBUG)
        redirect_logger(logger.name, handler, logging.INFO)
        assert state(logger) == ([handler], logging.INFO, False, False)
    assert state(logger) == before


def test_a_silenced_logger_is_restored() -> None:
    logger = logging.getLogger("of.another.library")
    with silenced_logger(logger.name):
        assert logger.disabled
    assert not logger.disabled


def test_loggers_are_changed_in_one_module_only() -> None:
    changes = ("handlers", "propagate", "disabled", "setLevel", "addHandler", "addFilter")
    files = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in changes
    }
    assert files == {"system/loggers.py"}
