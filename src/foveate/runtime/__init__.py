# SPDX-License-Identifier: Apache-2.0
"""Running a bundle: devices, engines, stages and the pipeline, without PyTorch and ONNX."""

from foveate.runtime.loading import load
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline

__all__ = ["Pipeline", "PipelineOptions", "load"]
