# SPDX-License-Identifier: Apache-2.0
"""Serve a bundle on many machines with Ray Serve, with as many replicas as the load needs.

python examples/ray_serve.py --port 8000

On a cluster: `serve run examples.ray_serve:app`. The routes are those of `foveate serve`.
"""

from __future__ import annotations

import argparse

from ray import serve
from starlette.applications import Starlette

from foveate import PipelineOptions
from foveate.serve import ServeOptions, create_app

SLOTS = 2  # images that a replica processes at a time


def build() -> Starlette:
    """Return the application of a replica, in the process of the replica."""
    options = ServeOptions(slots=SLOTS)
    return create_app("mini", options, pipeline_options=PipelineOptions(threads=1))


@serve.deployment(
    ray_actor_options={"num_cpus": 1, "num_gpus": 0},  # 0.5: two replicas share a GPU
    # Other requests wait for the first replica that is free; beyond these, they are refused with 503.
    max_ongoing_requests=SLOTS,
    max_queued_requests=64,
    autoscaling_config={"min_replicas": 2, "max_replicas": 8, "target_ongoing_requests": SLOTS},
)
@serve.ingress(build)
class Foveate:
    """A replica."""


app = Foveate.bind()  # type: ignore[attr-defined]  # Ray's decorators have no types


def main() -> None:
    """Serve at a port of this machine until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    serve.start(http_options={"host": "127.0.0.1", "port": parser.parse_args().port})
    serve.run(app, blocking=True)


if __name__ == "__main__":
    main()
