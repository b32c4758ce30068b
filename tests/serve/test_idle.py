# SPDX-License-Identifier: Apache-2.0
"""What a server releases when it has nothing to do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.memory import resident_bytes
from tests.samples.paths import CAT
from tests.samples.serving import document, encoded, send, server_process, until

import foveate
from foveate.images.reading import read_image
from foveate.images.resampling import resample
from foveate.serve.admission import Admission
from foveate.serve.call import Call
from foveate.serve.idle import release_when_idle
from foveate.serve.pipelines import RecordedPipeline


async def process(admission: Admission, done: threading.Event) -> None:
    """Process an image, which takes until an event."""
    with admission.place() as place:
        await admission.run(place, Call(id="image"), lambda _: done.wait(30))


def test_memory_is_released_once_when_no_image_is_in_work(contrast_bundle: Path) -> None:
    async def scenario(pipeline: RecordedPipeline) -> None:
        admission, releases, done = Admission([pipeline], slots=1, queue=0), [], threading.Event()
        watch = asyncio.create_task(
            release_when_idle(admission, lambda: releases.append(1), seconds=0.01)
        )
        await asyncio.sleep(0.1)
        assert not releases, "a server that was never used has nothing to release"
        for count in (1, 2):
            done.clear()
            work = asyncio.create_task(process(admission, done))
            await asyncio.sleep(0.1)
            assert len(releases) == count - 1, "an image is in work"
            done.set()
            await work
            while len(releases) < count:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(releases) == count
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        admission.close()

    # Playwright, which other tests use, leaves an event loop running in the main thread.
    with foveate.load(contrast_bundle) as pipeline, ThreadPoolExecutor(1) as thread:
        whole = asyncio.wait_for(scenario(RecordedPipeline(pipeline)), 60)
        thread.submit(asyncio.run, whole).result()


def test_a_server_that_was_used_and_is_idle_takes_less_than_450_megabytes(tmp_path: Path) -> None:
    image = encoded(resample(read_image(CAT), 480, 640), ".jpg")
    with server_process("mini", tmp_path) as running:
        answers = [send(running.url, "/v1/objects", image) for _ in range(2)]
        assert document(answers[0]) == document(answers[1])
        until(lambda: resident_bytes(running.process.pid) < 450e6)
        assert document(send(running.url, "/v1/objects", image)) == document(answers[0])
