"""What goes wrong for a client, in the shape of OpenAI's errors."""

from typing import Any


class ApiError(Exception):
    """An answer other than an image; `body()` is the JSON that OpenAI clients expect."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        """`code`: stable, for programs. `param`: the field at fault. `reason`: label of the reject metric."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_s, self.reason = retry_after_s, reason or code

    @property
    def kind(self) -> str:
        """OpenAI's `type`."""
        known = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return known.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": {name: value and _text(value) for name, value in error.items()}}

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"retry-after": str(max(1, round(self.retry_after_s + 0.5)))}


def _text(value: str) -> str:
    """Without the halves of characters that JSON can say and UTF-8 cannot: clients' words are repeated in errors."""
    return value.encode("utf-8", "replace").decode()


def invalid(message: str, param: str | None = None, *, status: int = 400, code: str = "invalid_value") -> ApiError:
    """A request that cannot be served as it is."""
    return ApiError(status, message, code=code, param=param)


def overloaded(message: str, retry_after_s: float, reason: str) -> ApiError:
    """A request that can be served later."""
    return ApiError(429, message, code="rate_limit_exceeded", retry_after_s=retry_after_s, reason=reason)


class EngineStopped(RuntimeError):
    """The sampler of a replica has stopped; another replica can take over."""
