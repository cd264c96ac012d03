"""`/v1/runs`, `/v1/datasets`, `/v1/evaluations`: what lies in the folders that are shown; nothing is changed."""

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from pm.errors import PmError
from serving.errors import ApiError
from serving.http.service import Service

Name = Annotated[str, Query(max_length=500)]
Text = Annotated[str, Query(max_length=200)]
Whole = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=500)]
Side = Annotated[int, Query(ge=16, le=512)]
_PICTURES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
# Reports are pages with scripts of their own: they run apart from the studio, without its origin.
_APART = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)
_PAGE_BYTES = 64 * 1024  # of the form that opens a page


class Folders:
    """The places that may be looked at, opened when first asked for."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._roots: dict[str, Any] = {}

    def look(self, request: Request, setting: Literal["runs", "data"], work: Callable[[Any], Any]) -> Any:
        """What `work` makes of a root, for those who may look.

        Raises:
            ApiError: 401, or 404 for what is not there.
        """
        self.service.authenticate(request)
        return self.read(setting, work)

    def read(self, setting: Literal["runs", "data"], work: Callable[[Any], Any]) -> Any:
        place = getattr(self.service.config.studio, setting)
        if place is None:
            message = f"this service shows no {setting}; start it with studio.{setting}=FOLDER, or studio=local"
            raise ApiError(404, message, code="not_configured")
        try:
            if setting not in self._roots:
                from pm.catalog.root import Root  # Arrow takes a second: only for those who look

                self._roots[setting] = Root(place)
            return work(self._roots[setting])
        except PmError as error:
            raise ApiError(404, str(error), code="not_found") from None


def add_folders(app: FastAPI, service: Service) -> Folders:
    """Add the routes that read; returns the places, for those that do more."""
    folders = Folders(service)
    for router in (_runs(folders), _datasets(folders), _evaluations(folders)):
        app.include_router(router)
    return folders


def _runs(folders: Folders) -> APIRouter:
    router = APIRouter(prefix="/v1/runs")

    @router.get("")
    def runs(request: Request) -> dict[str, Any]:
        """Training runs: how each stands, and how to go on with it."""
        from pm.catalog import runs

        return {"object": "list", "data": folders.look(request, "runs", runs.runs)}

    @router.get("/details")
    def details(request: Request, name: Name) -> dict[str, Any]:
        """One run: settings, validation pictures, checkpoints."""
        from pm.catalog import runs

        return folders.look(request, "runs", lambda root: runs.details(root, name))

    @router.get("/curves")
    def curves(request: Request, name: Name, after: Annotated[int, Query()] = -1) -> dict[str, Any]:
        """What it measured, in columns; `after`: a step, of which the later ones are sent."""
        from pm.catalog import runs

        return folders.look(request, "runs", lambda root: runs.curves(root, name, after))

    @router.get("/differences")
    def differences(request: Request, first: Name, second: Name) -> dict[str, Any]:
        """Settings that two runs do not share."""
        from pm.catalog import runs

        found = folders.look(request, "runs", lambda root: runs.differences(root, first, second))
        return {"object": "list", "data": found}

    @router.get("/picture")
    def picture(request: Request, file: Name) -> Response:
        """A validation picture, as named in the details."""
        return _picture(folders, request, "runs", file)

    @router.get("/adapter")
    def adapter(request: Request, name: Name) -> Response:
        """The run's adapter file."""
        from pm.catalog import runs

        def read(root: Any) -> bytes:
            file = runs.described(root, name)["adapter"]
            if file is None:
                raise ApiError(404, f"run {name[:80]!r} has no adapter yet", code="not_found")
            return root.read(file)

        return Response(folders.look(request, "runs", read), media_type="application/octet-stream")

    return router


def _datasets(folders: Folders) -> APIRouter:
    router = APIRouter(prefix="/v1/datasets")

    @router.get("")
    def datasets(request: Request) -> dict[str, Any]:
        """Datasets, with how many people and photos they have."""
        from pm.catalog import datasets

        return {"object": "list", "data": folders.look(request, "data", datasets.datasets)}

    @router.get("/overview")
    def overview(request: Request, name: Name) -> dict[str, Any]:
        """What came in and what stayed, stage by stage."""
        from pm.catalog import datasets

        return folders.look(request, "data", lambda root: datasets.overview(root, name))

    @router.get("/people")
    def people(request: Request, name: Name, search: Text = "", offset: Whole = 0, limit: Limit = 60) -> dict[str, Any]:
        """People of a dataset; `search` is in names, photos and captions."""
        from pm.catalog import datasets

        return folders.look(request, "data", lambda root: datasets.people(root, name, search, offset, limit))

    @router.get("/person")
    def person(request: Request, name: Name, identity: Name) -> dict[str, Any]:
        """All photos of one person."""
        from pm.catalog import datasets

        return folders.look(request, "data", lambda root: datasets.person(root, name, identity))

    @router.get("/picture")
    def picture(
        request: Request,
        name: Name,
        number: Whole,
        kind: Literal["crop", "person", "reject"] = "person",
        side: Side = 192,
    ) -> Response:
        """A photo as the dataset has it; `reject`: a rejected one, as it was found."""
        from pm.catalog import datasets

        def read(root: Any) -> bytes:
            if kind == "reject":
                return datasets.rejected(root, name, number, side)
            return datasets.picture(root, name, number, kind, side)

        return _private(folders.look(request, "data", read), "image/jpeg")

    @router.get("/rejects")
    def rejects(
        request: Request, name: Name, reason: Text = "", search: Text = "", offset: Whole = 0, limit: Limit = 100
    ) -> dict[str, Any]:
        """Photos that were left out, with the reason."""
        from pm.catalog import datasets

        return folders.look(request, "data", lambda root: datasets.rejects(root, name, reason, search, offset, limit))

    return router


def _evaluations(folders: Folders) -> APIRouter:
    router = APIRouter(prefix="/v1/evaluations")

    @router.get("")
    def evaluations(request: Request) -> dict[str, Any]:
        """Evaluations that have a report."""
        from pm.catalog import reports

        return {"object": "list", "data": folders.look(request, "runs", reports.reports)}

    @router.get("/details")
    def details(request: Request, name: Name) -> dict[str, Any]:
        """One evaluation's table, with the values of each person and prompt."""
        from pm.catalog import reports

        return folders.look(request, "runs", lambda root: reports.report(root, name))

    @router.get("/pictures")
    def pictures(request: Request, name: Name, key: Name) -> dict[str, Any]:
        """Files of one row's pictures, by person."""
        from pm.catalog import reports

        return {"people": folders.look(request, "runs", lambda root: reports.pictures(root, name, key))}

    @router.get("/picture")
    def picture(request: Request, name: Name, file: Name) -> Response:
        """One of them."""
        return _picture(folders, request, "runs", f"{name}/{file}")

    @router.post("/page", include_in_schema=False)
    async def page(request: Request, name: Name, blind: bool = False) -> Response:
        """The report as `evaluate` wrote it, or its blind comparison; the form's field `key` is the API's key."""
        from pm.catalog import reports

        form = await request.body()
        if len(form) > _PAGE_BYTES:
            raise ApiError(413, "the form is too large", code="body_too_large")
        folders.service.authenticate(_with_key(request, form))
        file = f"{name}/{reports.BLIND if blind else reports.PAGE}"
        text = await run_in_threadpool(folders.read, "runs", lambda root: root.read(file))
        headers = {"content-security-policy": _APART, "x-content-type-options": "nosniff", "cache-control": "no-store"}
        return HTMLResponse(text, headers=headers)

    return router


def _with_key(request: Request, form: bytes) -> Request:
    """The request with a form's key where a program has it: in the header, which a form cannot set."""
    key = parse_qs(form.decode("utf-8", "replace")).get("key", [""])[0]
    if not key:
        return request
    return Request({**request.scope, "headers": [(b"authorization", b"Bearer " + key.encode())]})


def _picture(folders: Folders, request: Request, setting: Literal["runs", "data"], file: str) -> Response:
    kind = _PICTURES.get(file.rpartition(".")[2].lower())
    if kind is None:
        raise ApiError(404, f"{file[:80]!r} is no picture", code="not_found")
    return _private(folders.look(request, setting, lambda root: root.read(file)), kind)


def _private(data: bytes, kind: str) -> Response:
    headers = {"x-content-type-options": "nosniff", "cache-control": "private, max-age=60"}
    return Response(data, media_type=kind, headers=headers)
