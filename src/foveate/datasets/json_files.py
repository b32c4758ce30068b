# SPDX-License-Identifier: Apache-2.0
"""JSON files that a user gives."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from foveate.errors import DataError


def read_json(file: Path, *, remedy: str) -> Any:
    """Decode a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: It cannot be read, is no JSON, or is in another encoding.
    """
    try:
        text = file.read_bytes()
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError("it is UTF-16, and must be UTF-8")
        return json.loads(text.decode("utf-8-sig"))
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", file=file, remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise DataError(f"no JSON can be read ({error})", file=file, remedy=remedy) from error
