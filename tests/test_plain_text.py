# SPDX-License-Identifier: Apache-2.0
"""Names of files and classes on terminals and in JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from foveate.plain_text import first_line, json_text, portable_name, printable

ANY_TEXT = st.text(st.characters(codec=None))
NAMES = st.binary(max_size=8).map(lambda name: name.decode("utf-8", "surrogateescape"))


@given(ANY_TEXT)
def test_printable_text_is_one_line_that_every_terminal_takes(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert shown.isprintable() or not text.isprintable()
    assert not set(shown) & {chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x202E)}


@given(ANY_TEXT)
@example("\ufffe\uffff")
def test_printable_text_is_text_of_xml(text: str) -> None:
    element = ET.Element("name")
    element.text = printable(text)
    assert ET.fromstring(ET.tostring(element)).text == (element.text or None)  # noqa: S314 - our own


def test_escapes_are_shown() -> None:
    assert (
        printable("a\x1b[31m\nb\x9b\u202ecaf\udce9 日本")
        == "a\\x1b[31m\\nb\\x9b\\u202ecaf\\xe9 日本"
    )


@given(ANY_TEXT)
def test_json_is_read_by_strict_readers(text: str) -> None:
    made = json.loads(json_text({"name": text}))["name"]
    made.encode("utf-8")
    assert made == text or "\\" in made


def test_json_keeps_pairs_of_surrogates_and_backslashes() -> None:
    assert json.loads(json_text("\\udce9 \U0001f600")) == "\\udce9 \U0001f600"
    assert json.loads(json_text("caf\udce9")) == "caf\\xe9"


@given(NAMES, NAMES)
def test_different_names_of_files_stay_different(one: str, other: str) -> None:
    portable_name(one).encode("utf-8")
    assert (portable_name(one) == portable_name(other)) == (one == other)


def test_a_byte_that_is_not_utf8_becomes_an_escape() -> None:
    assert portable_name("caf\udce9.png") == "caf\\xe9.png"
    assert portable_name("caf\\xe9.png") == "caf\\\\xe9.png"
    assert portable_name("a\\b.png") == "a\\b.png"


def test_an_error_is_one_line() -> None:
    assert first_line(ValueError("\nno such size.\nTraceback: ...")) == "no such size"
    assert first_line(ValueError()) == "ValueError"
