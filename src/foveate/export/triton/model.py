# SPDX-License-Identifier: Apache-2.0
"""The cascade for Triton's Python backend, which calls the networks as other models of the server.

The steps between the networks (levels, selection, suppression, masks) have sizes that depend on the
data, so the cascade cannot be a Triton ensemble. They run here, in Foveate's runtime, and every
network is the model ``<name of this model>_<stage>``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from foveate.bundle import Bundle
from foveate.bundle.manifest import Manifest
from foveate.errors import BackendError, FoveateError
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.engines import FunctionEngine
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD

ARRAYS: dict[str, Callable[[Any], Any]] = {
    "boxes": lambda found: found.boxes,
    "scores": lambda found: found.scores,
    "labels": lambda found: found.labels,
    "masks": lambda found: np.asarray(found.masks),
    "rle": lambda found: np.array([json.dumps(one) for one in found.masks.rle()], np.object_),
}
"""Function that computes each output; only requested outputs are computed."""


class TritonPythonModel:
    """An instance of the model. Triton's Python backend finds it by this name and calls its methods."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the manifest next to this file, and create the pipeline."""
        entries = json.loads(args["model_config"]).get("parameters", {})
        parameters = {name: entry["string_value"] for name, entry in entries.items()}
        folder = Path(args["model_repository"], args["model_version"])
        manifest = Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
        engines = {
            stage: FunctionEngine(
                spec.inputs,
                spec.outputs,
                partial(infer, f"{args['model_name']}_{stage}", [one.name for one in spec.outputs]),
            )
            for stage, spec in manifest.networks.items()
        }
        options = PipelineOptions(
            score_threshold=float(parameters.get("score_threshold", DEFAULT_SCORE_THRESHOLD))
        )
        self.pipeline = Pipeline(Bundle(folder, manifest), engines, options=options)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response to each request; a failed request does not affect the others."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the pipeline."""
        self.pipeline.close()

    def _answer(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        classifies = self.pipeline.bundle.manifest.classifies
        try:
            found = self.pipeline(image) if classifies else self.pipeline.propose(image)
        except FoveateError as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))
        names = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, ARRAYS[name](found)) for name in names]
        )


def infer(model: str, outputs: list[str], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run another model of this server, and return its outputs on the host."""
    response = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=outputs,
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    ).exec()
    if response.has_error():
        raise BackendError(f"the model {model!r} failed ({response.error().message()})")
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}
