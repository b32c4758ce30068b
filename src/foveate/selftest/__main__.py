# SPDX-License-Identifier: Apache-2.0
"""``python -m foveate.selftest STEP RECORD BUNDLE``: one step, in a process of its own."""

import sys
from pathlib import Path

from foveate.selftest.checks import record_checks
from foveate.selftest.plan import STEPS

if __name__ == "__main__":
    step, record, bundle = sys.argv[1:]
    record_checks(STEPS[step].checks(bundle), Path(record))
