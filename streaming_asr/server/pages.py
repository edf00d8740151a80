"""The browser pages, the JavaScript client they use, and what a page may ask about the server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from streaming_asr import __version__
from streaming_asr.server.auth import Guard
from streaming_asr.server.service import Service

_PACKAGE = Path(__file__).parents[1]
WEB = _PACKAGE / "web"
CLIENT = _PACKAGE.parent / "clients" / "browser"
"""The JavaScript client; `clients` is installed beside this package."""

HEADERS: Mapping[str, str] = {
    # No resources of other origins, no inline scripts and styles, no frames.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Browsers revalidate each file, so after an upgrade no page gets another version's module.
    "Cache-Control": "no-cache",
}
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Not those of the system, which may differ; browsers insist on these."""


class _Files(StaticFiles):
    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        if kind := _TYPES.get(Path(full_path).suffix):
            response.headers["Content-Type"] = f"{kind}; charset=utf-8"
        return response


def page_routes(service: Service, guard: Guard) -> list[BaseRoute]:
    """`/` and `/captions` with what they load, and `/v1/about`."""
    files = _Files(directory=WEB)

    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    async def captions(request: Request) -> Response:
        return await files.get_response("captions.html", request.scope)

    async def about(request: Request) -> Response:
        """Browsers hide from a page why a handshake failed, so here it may ask whether its key is right."""
        about: dict[str, object] = {"status": service.status, "version": __version__}
        if await guard.refusal(request) is not None:
            about["key"] = "wanted"
        else:
            about["key"] = "fits" if service.options.api_keys else "unneeded"
            about["translates"] = service.options.translate_url is not None
            if service.ready:
                can = service.recognizer.capabilities
                about |= {"recognizer": can.name, "model": can.model, "languages": can.languages}
        return JSONResponse(about, headers={"Cache-Control": "no-store"})

    return [
        guard.route("/", index, open=True),
        guard.route("/captions", captions, open=True),
        guard.route("/v1/about", about, open=True),
        Mount("/web", files),
        Mount("/client", _Files(directory=CLIENT)),
    ]
