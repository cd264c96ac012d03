"""`/v1/datasets/edits`: corrections by hand. They wait beside the dataset until `photomaker edit` applies them."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serving.errors import ApiError
from serving.http.folders import Folders, Name


class Proposal(BaseModel):
    """One edit, as `pm.data.edits.effects` has them."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=500, description="Of the dataset.")
    edit: dict[str, Any]


class Undo(BaseModel):
    """How many of the edits that wait are taken back, the last ones first."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=500, description="Of the dataset.")
    number: int = Field(1, ge=1)


def edit_routes(folders: Folders) -> APIRouter:
    """The routes. Bodies are JSON, which no form of another site can send."""
    router = APIRouter(prefix="/v1/datasets/edits")

    def check(request: Request) -> None:
        folders.service.authenticate(request)
        if not folders.service.config.studio.edit:
            message = "this service shows datasets and changes none; start it with studio.edit=true"
            raise ApiError(403, message, code="not_allowed")

    @router.get("")
    def edits(request: Request, name: Name) -> dict[str, Any]:
        """Those in force, and those that wait."""
        from pm.catalog import edits

        return folders.look(request, "data", lambda root: edits.edits(root, name))

    @router.post("")
    def propose(request: Request, wanted: Proposal) -> dict[str, Any]:
        """Add one to those that wait."""
        from pm.catalog import edits

        check(request)
        return folders.look(request, "data", lambda root: edits.propose(root, wanted.name, wanted.edit))

    @router.post("/undo")
    def undo(request: Request, wanted: Undo) -> dict[str, Any]:
        """Take the last ones back."""
        from pm.catalog import edits

        check(request)
        return folders.look(request, "data", lambda root: edits.undo(root, wanted.name, wanted.number))

    return router
