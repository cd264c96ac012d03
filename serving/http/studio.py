"""`/studio`: pages for people. Plain files of this server, over the same API that programs use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serving.errors import ApiError
from serving.http.service import Service

_FOLDER = Path(__file__).resolve().parents[1] / "studio"
# No script or style stands in the page, nothing is loaded from elsewhere, and no other site may show it in a frame.
# Pictures come as blobs, since the API's key travels in a header, which an <img> cannot send.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # asked for again each time: an update of the service is seen at once
}
_PHOTOS = (".png", ".jpg", ".jpeg", ".webp")


class _Files(StaticFiles):
    """The studio's files, with its headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers.update({name: value for name, value in HEADERS.items() if name != "content-security-policy"})
        return answer

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.endswith(".html"):  # the page has an address of its own, with its policy
            raise ApiError(404, "no such file", code="not_found")
        return await super().get_response(path, scope)


def add_studio(app: FastAPI, service: Service) -> None:
    """Add the page, its files and the sample photos. None of them needs a key: they say nothing of anybody's."""
    page, examples = _FOLDER / "index.html", sample_photos(service.config.studio.examples)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("studio", headers={"cache-control": "no-cache"})

    # Addresses in the page are relative to it, so it also works where a proxy adds a prefix.
    @app.get("/studio", include_in_schema=False)
    async def studio() -> Response:
        return FileResponse(page, media_type="text/html", headers=HEADERS)

    @app.get("/studio/", include_in_schema=False)
    async def folder() -> Response:
        return RedirectResponse("../studio", headers={"cache-control": "no-cache"})

    @app.get("/studio/examples", include_in_schema=False)
    async def listed(request: Request) -> list[dict[str, Any]]:
        return [
            {"name": name, "photos": [f"{name}/{i}" for i in range(len(files))]} for name, files in examples.items()
        ]

    @app.get("/studio/examples/{name}/{number:int}", include_in_schema=False)
    async def example(name: str, number: int) -> Response:
        files = examples.get(name, ())
        if number >= len(files):
            raise ApiError(404, "no such photo", code="not_found")
        return FileResponse(files[number], headers={"x-content-type-options": "nosniff"})

    app.mount("/studio/assets", _Files(directory=_FOLDER))


def sample_photos(folders: Sequence[str]) -> dict[str, list[Path]]:
    """Photos of each sample person: `woman_1.png` and `woman_2.png` are two of one, and so is what is in a folder."""
    people: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in _PHOTOS and path.is_file():
                own = path.parent != Path(folder).expanduser()
                name = path.parent.name if own else path.stem.rpartition("_")[0] or path.stem
                people.setdefault(name, []).append(path)
    return people
