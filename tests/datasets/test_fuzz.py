# SPDX-License-Identifier: Apache-2.0
"""Damaged annotations and results end in an answer or in an error of ours, and nothing is printed."""

from __future__ import annotations

import pytest
from tests.fuzz.annotations import CAMPAIGNS
from tests.fuzz.harness import Report, run


@pytest.mark.parametrize("name", [campaign.name for campaign in CAMPAIGNS])
def test_damaged_annotations_are_no_surprise(name: str) -> None:
    report = Report()
    for case in run("annotations", name=name, cases=60, seed=7):
        report.add(case)
    assert report.faults == []
    assert report.printing == []
    assert report.outcomes == {"done": 60}
