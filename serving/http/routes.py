"""The FastAPI application."""

import string
import time
from typing import Any
from urllib.parse import quote_from_bytes

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pm.protect.config import protection
from serving.capabilities import capabilities
from serving.config import BASE
from serving.errors import ApiError
from serving.http.docs import add_docs
from serving.http.edits import edit_routes
from serving.http.folders import add_folders
from serving.http.origin import Guard
from serving.http.pictures import ABOUT, FILES
from serving.http.references import LookRequest, references
from serving.http.schema import ImageRequest, is_alias
from serving.http.service import Service, answer_headers, request_id_of
from serving.http.studio import add_studio

_STARTED = int(time.time())


def create_app(service: Service) -> FastAPI:
    """The routes around one service."""
    app = FastAPI(
        title="PhotoMaker on Ray",
        description="Portraits of the person in your photos, in the shape of OpenAI's images API.",
        version="1",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )

    app.add_middleware(Guard, http=service.config.http, keys=service.keys is not None)

    async def edits(request: Request) -> Response:
        """Portraits from 1-16 photos of a person and a prompt."""
        return await service.answer(request, "edits")

    async def variations(request: Request) -> Response:
        """The person of the photos, with the class word alone (`class_word`, default person)."""
        return await service.answer(request, "variations")

    async def generations(request: Request) -> Response:
        """Images from a prompt alone, by the base model."""
        return await service.answer(request, "generations")

    app.add_middleware(AsciiQuery)
    app.add_api_route("/v1/images/edits", edits, methods=["POST"], openapi_extra=_body("multipart/form-data"))
    variation = _body("multipart/form-data", needed=())
    app.add_api_route("/v1/images/variations", variations, methods=["POST"], openapi_extra=variation)
    app.add_api_route("/v1/images/generations", generations, methods=["POST"], openapi_extra=_body("application/json"))
    _add_references(app, service)
    _add_models(app, service)
    _add_loras(app, service)
    _add_probes(app, service)
    _add_errors(app)
    add_docs(app)
    if service.config.studio.enabled:
        add_studio(app, service)
        app.include_router(edit_routes(add_folders(app, service)))
    return app


def _add_references(app: FastAPI, service: Service) -> None:
    async def look(request: Request) -> Response:
        """What a model would see of photos: face and person, or why one cannot be used."""
        return await references(service, request)

    body = _body("multipart/form-data", needed=(), fields=LookRequest.model_json_schema(), others=False)
    app.add_api_route("/v1/images/references", look, methods=["POST"], openapi_extra=body)

    @app.get("/v1/capabilities")
    async def what(request: Request) -> dict[str, Any]:
        """Models, samplers, defaults and limits of this service."""
        service.authenticate(request)
        return capabilities(service.config, service.adapters, service.loras.files())


class AsciiQuery:
    """Percent-encode the other bytes of a query: Starlette reads it as UTF-8, and fails on what is none."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = scope.get("query_string", b"")
        if not query.isascii():
            scope = {**scope, "query_string": quote_from_bytes(query, safe=string.punctuation).encode()}
        await self.app(scope, receive, send)


def _add_models(app: FastAPI, service: Service) -> None:
    def described(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": _STARTED, "owned_by": "photomaker"}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """Adapters by name, and the base alone."""
        service.authenticate(request)
        return {"object": "list", "data": [described(name) for name in (*service.adapters, BASE)]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        """One of them."""
        service.authenticate(request)
        known = name == BASE or name in service.adapters or is_alias(name, service.config.service)
        if not known:
            raise ApiError(404, f"model {name[:60]!r} is not here", code="model_not_found", param="model")
        return described(name)


def _add_loras(app: FastAPI, service: Service) -> None:
    @app.get("/v1/loras")
    async def loras(request: Request) -> dict[str, Any]:
        """Style LoRAs by name, for the field `loras`."""
        service.authenticate(request)
        return {"object": "list", "data": [{"id": name, "object": "lora"} for name in service.loras.files()]}


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> dict[str, Any]:
        """Requests are served; with no engine running because nobody asked, the first one starts it."""
        if await service.backend.ready():
            return {"status": "ready", "protect": protection(service.config.protect)}
        raise ApiError(503, "the engines are not ready", code="not_ready", retry_after_s=service.limits.retry_after_s)


def _add_errors(app: FastAPI) -> None:
    """Everything that is not an answer has OpenAI's error shape."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        headers = error.headers() | answer_headers(request, request_id_of(request))
        return JSONResponse(error.body(), error.status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        found = ApiError(400, f"{name[:60]}: {first['msg']}", code="invalid_value", param=name[:60])
        return JSONResponse(found.body(), found.status)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:80]
        message = f"{request.method} {path}: {error.detail}; see /docs"
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return JSONResponse(ApiError(error.status_code, message, code=code).body(), error.status_code, error.headers)


def _body(
    kind: str, needed: tuple[str, ...] = ("prompt",), fields: dict[str, Any] | None = None, others: bool = True
) -> dict[str, Any]:
    """The request body for /docs; bodies are read by `serving.http.upload`, within limits.

    Args:
        kind: content type.
        needed: names of fields.
        fields: JSON schema of the fields that are no files; None: those of `ImageRequest`.
        others: files besides photos of the person are taken.
    """
    schema = fields or ImageRequest.model_json_schema()
    if kind.startswith("multipart"):
        file = {"type": "string", "format": "binary"}
        photos = {"type": "array", "items": file, "minItems": 1, "maxItems": 16}
        files: dict[str, Any] = {
            name: file | {"description": text} for name, text in ABOUT.items() if FILES[name][0] == 1
        }
        several = [(name, FILES[name][0], text) for name, text in ABOUT.items() if FILES[name][0] > 1]
        files |= {
            f"{name}[]": {"type": "array", "items": file, "maxItems": most, "description": text}
            for name, most, text in several
        }
        schema["properties"] = {"image[]": photos | {"description": "Photos of the person."}} | schema["properties"]
        schema["properties"] |= files if others else {}
        schema["required"] = list(needed)
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}
