# SPDX-License-Identifier: Apache-2.0
"""Results as one self-contained HTML page."""

from foveate.page.document import page
from foveate.page.record import SCORE_THRESHOLD, page_record
from foveate.page.timing import TimedPipeline

__all__ = ["SCORE_THRESHOLD", "TimedPipeline", "page", "page_record"]
