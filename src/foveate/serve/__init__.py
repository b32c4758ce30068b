# SPDX-License-Identifier: Apache-2.0
"""An HTTP server for a bundle: plain routes for people, the Open Inference Protocol for machines."""

from foveate.errors import MissingExtraError

try:
    from foveate.serve.app import create_app
    from foveate.serve.options import ServeOptions
except ModuleNotFoundError as error:
    raise MissingExtraError(str(error.name).partition(".")[0], "serve") from error

__all__ = ["ServeOptions", "create_app"]
