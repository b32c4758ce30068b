# SPDX-License-Identifier: Apache-2.0
"""The mutation testing tool, and the share of a sample of mutants that the tests kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutation import mutations
from tests.mutation.__main__ import REASONS, interval, write_package
from tests.mutation.coverage import ROOT
from tests.mutation.mutations import draw, mutants_of

SOURCE = '''
def scaled(values, factor=2, *, height: int = 0):
    """Not changed: 1."""
    assert factor > 1
    if not height:
        raise ValueError(f"{factor + 1}")
    return [value * factor for value in values[1:] if value < height]
'''


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "scaled.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(mutations, "PACKAGE", tmp_path)
    return "scaled.py"


def test_code_that_changes_a_result_is_mutated_but_no_texts_and_assertions(source: str) -> None:
    changes = {(mutant.before, mutant.after) for mutant in mutants_of(source)}
    assert changes == {
        ("2", "(1)"),
        ("2", "(3)"),
        ("0", "(1)"),
        ("not height", "(height)"),
        ("height", "(width)"),
        ("value * factor", "(value / factor)"),
        ("value * factor", "(value)"),
        ("1:", ":"),
        ("1", "(0)"),
        ("value < height", "(value <= height)"),
    }


def test_the_key_of_a_mutant_does_not_change_when_its_line_moves(source: str) -> None:
    before = {mutant.key for mutant in mutants_of(source)}
    path = mutations.PACKAGE / source
    path.write_text("import math\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert {mutant.key for mutant in mutants_of(source)} == before


def test_mutants_are_drawn_by_a_seed(source: str) -> None:
    first, again, other = (draw([source], seed) for seed in (0, 0, 1))
    assert first == again != other
    assert {mutant.key for mutant in first} == {mutant.key for mutant in other}


def test_a_package_with_a_mutant_differs_in_one_file(tmp_path: Path) -> None:
    mutant = mutants_of("results/masks.py")[0]
    write_package(mutant, tmp_path)
    changed = tmp_path / "foveate" / mutant.source
    assert changed.read_bytes() == mutant.code() != (mutations.PACKAGE / mutant.source).read_bytes()
    assert (changed.parent / "overlay.py").samefile(mutations.PACKAGE / "results" / "overlay.py")
    assert (tmp_path / "foveate" / "errors.py").is_symlink()


def test_an_interval_contains_its_proportion() -> None:
    low, high = interval(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_survivors_that_are_excused_change_no_result() -> None:
    for survivor in json.loads(REASONS.read_text(encoding="utf-8")).values():
        assert survivor["reason"].startswith(("equivalent: ", "performance: ", "message: "))


@pytest.mark.slow
def test_nine_of_ten_mutants_of_a_sample_are_killed(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    sources = ["kernels/", "models/losses.py", "results/masks.py", "training/sampling/"]
    kernels = ("crop_features", "launches", "letterbox", "mask_boxes", "nms", "postprocess")
    tests = [f"kernels/test_{name}.py" for name in (*kernels, "select_top_k")]
    tests += ["models/test_losses.py", "results", "training/sampling"]
    words = ["--only", *sources, "--tests", *(str(ROOT / "tests" / one) for one in tests)]
    words += ["--sample", "40", "--results", str(results), "--cache", str(tmp_path)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    subprocess.run(
        [sys.executable, "-m", "tests.mutation", *words],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    reasons = json.loads(REASONS.read_text(encoding="utf-8"))
    found = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    counted = [one for one in found if one["key"] not in reasons and one["fate"] != "stillborn"]
    assert sum(one["fate"] != "survived" for one in counted) >= 0.9 * len(counted)
