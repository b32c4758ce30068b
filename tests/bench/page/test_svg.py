# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from foveate.bench.page.scales import linear_scale
from foveate.bench.page.svg import Chart, spread


@pytest.fixture
def chart() -> Chart:
    return Chart("Sizes", height=100, x=linear_scale(10.0), y=linear_scale(50.0))


def elements(chart: Chart, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(chart.svg()).iter(tag))  # noqa: S314 - our own document


def test_a_chart_has_a_name_for_screen_readers(chart: Chart) -> None:
    svg = elements(chart, "svg")[0]
    assert (svg.get("role"), svg.get("aria-label")) == ("img", "Sizes")


def test_axes_have_a_line_and_a_label_per_tick(chart: Chart) -> None:
    chart.x_axis("{:g} m".format, "length")
    chart.y_axis("{:g} s".format, "time")
    assert [one.text for one in elements(chart, "text")] == [
        *("0 m", "2 m", "4 m", "6 m", "8 m", "10 m", "length"),
        *("0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "time"),
    ]
    lines = elements(chart, "line")
    assert [one.get("x1") for one in lines[:6]] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert [one.get("y1") for one in lines[6:]] == ["100.0", "80.0", "60.0", "40.0", "20.0", "0.0"]


def test_a_line_is_stretched_to_the_width(chart: Chart) -> None:
    chart.line([(0, 0), (5, 25), (10, 50)], "c0", "growth")
    path = elements(chart, "path")[0]
    assert path.get("d") == "M0 100.0L500 50.0L1000 0.0"
    assert path.findtext("title") == "growth"
    assert elements(chart, "svg")[1].get("preserveAspectRatio") == "none"


def test_a_band_is_closed(chart: Chart) -> None:
    chart.band([(0, 10, 20), (10, 30, 40)], "c0")
    assert elements(chart, "path")[0].get("d") == "M0 60.0L1000 20.0L1000 40.0L0 80.0Z"


def test_points_lie_at_shares_of_the_width_and_keep_their_shape(chart: Chart) -> None:
    chart.dot(2.5, 25, "c1", "here")
    dot = elements(chart, "circle")[0]
    assert (dot.get("cx"), dot.get("cy"), dot.findtext("title")) == ("25%", "50.0", "here")


def test_a_bar_has_a_title(chart: Chart) -> None:
    chart.rect(2, 5, top=10, height=8, style="c0", title="refine: 3 ms")
    bar = elements(chart, "rect")[0]
    assert (bar.get("x"), bar.get("width"), bar.get("y")) == ("20%", "30%", "10")
    assert bar.findtext("title") == "refine: 3 ms"


def test_a_bar_beyond_the_chart_is_cut(chart: Chart) -> None:
    chart.rect(8, 30, top=0, height=8, style="c0")
    assert elements(chart, "rect")[0].get("width") == "20%"


def test_many_points_take_a_few_bytes_each(chart: Chart) -> None:
    empty = len(chart.svg())
    chart.cloud([(n / 100, n / 20) for n in range(1000)], "c0")
    assert len(chart.svg()) - empty < 16_000


def test_texts_of_users_are_escaped(chart: Chart) -> None:
    chart.row_label(0, "<b>&\x1b[2J</b>", "3 < 4")
    chart.dot(1, 1, "c0", '"<script>"')
    assert [one.text for one in elements(chart, "text")] == ["<b>&\\x1b[2J</b>", "3 < 4"]
    assert elements(chart, "circle")[0].findtext("title") == '"<script>"'


def test_labels_do_not_cover_each_other(chart: Chart) -> None:
    chart.margin_labels([(5, "c"), (40, "a"), (39, "b")])
    tops = {one.text: float(one.get("y", "")) for one in elements(chart, "text")}
    assert tops == {"a": 24.0, "b": 38.0, "c": 94.0}


def test_labels_are_moved_as_little_as_needed() -> None:
    assert spread([0, 3, 40]) == [0, 14, 40]
