# SPDX-License-Identifier: Apache-2.0
"""Engines: the stages of a bundle, ready to run. There is one file per kind of engine."""

from foveate.runtime.engines.cpu import FunctionEngine
from foveate.runtime.engines.engine import Engine

__all__ = ["Engine", "FunctionEngine"]
