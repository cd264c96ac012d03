"""`/docs`: Swagger UI of the API, from this server alone: a browser without the internet shows it too."""

import importlib.util
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

# Addresses are relative, so the page also works where a proxy adds a prefix; and no script stands in the page itself,
# so the strictest policy holds. Swagger UI sets styles from its script and has its icons in its style sheet.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon.png">
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; the same in JSON: <a href="openapi.json">openapi.json</a></noscript>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_docs(app: FastAPI) -> None:
    """Add the page, what starts it, and Swagger UI's files, which the package fastapi-offline brings."""
    page, headers = _PAGE.format(title=app.title), {"content-security-policy": _POLICY}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    app.mount("/docs/assets", StaticFiles(directory=_assets()))


def _assets() -> Path:
    found = importlib.util.find_spec("fastapi_offline")
    assert found is not None and found.origin is not None, "fastapi-offline is a dependency of the project"
    return Path(found.origin).with_name("static")
