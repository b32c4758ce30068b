# SPDX-License-Identifier: Apache-2.0
"""Preflight requests of browsers, for pages of other servers (CORS)."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from foveate.serve.call import REQUEST_ID, request_id
from foveate.serve.errors import RequestError


class Cors(CORSMiddleware):
    """Starlette's middleware, whose refusals are JSON."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer whether a page may send a request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == HTTPStatus.OK:
            return answer
        asked = [
            f"{name}: {value:.100}"
            for name, value in request_headers.items()
            if name == "origin" or name.startswith("access-control-request-")
        ]
        methods, headers = " or ".join(self.allow_methods), ", ".join(self.allow_headers)
        error = RequestError(
            answer.status_code,
            expected=f"{methods} from a page that the server allows, with the headers {headers}",
            found=", ".join(asked),
            remedy="omit other headers, or allow the page by --allow-origin of the server",
        )
        document = error.document("", request_id(request_headers.get(REQUEST_ID)))
        kept = {k: v for k, v in answer.headers.items() if not k.startswith("content-")}
        return JSONResponse(document, error.status, kept)
