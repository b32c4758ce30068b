# SPDX-License-Identifier: Apache-2.0
"""Run fuzz campaigns by hand: ``python -m tests.fuzz images --cases 10000``."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.harness import Report, campaigns_of, run

SHOWN = 20


def main() -> int:
    """Run the cases, spread evenly over the campaigns; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("module", choices=("images", "bundles", "annotations"))
    parser.add_argument(
        "--cases", type=int, default=300, help="number of cases of all campaigns together"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each campaign's first case")
    parser.add_argument("--only", help="name of a single campaign")
    given = parser.parse_args()
    chosen = [c for c in campaigns_of(given.module) if given.only in (None, c.name)]
    total = Report()
    for campaign in chosen:
        report, cases = Report(), -(-given.cases // len(chosen))
        for case in run(
            given.module, name=campaign.name, cases=cases, seed=given.seed, first=given.first
        ):
            report.add(case)
            total.add(case)
        print(f"{campaign.name}: {report.summary()}", flush=True)
    for case in total.faults[:SHOWN]:
        print(f"\n{case.campaign} {case.number}: {case.outcome}\n{case.detail}")
    for case in total.printing[:SHOWN]:
        print(f"\n{case.campaign} {case.number} printed: {case.printed[:500]}")
    print(f"\nall: {total.summary()}")
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
