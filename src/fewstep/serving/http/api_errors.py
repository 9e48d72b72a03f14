"""Errors in the format of OpenAI's API: {"error": {"message", "type", "param", "code"}}, always with all four."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect

from fewstep.generation import RequestError
from fewstep.serving.engine.errors import Busy, InputError, NotFound, ShuttingDown, Stopped, Superseded

DrawError = (RequestError, Busy, Stopped)
"""The errors with which the desk refuses a request."""


class ApiError(Exception):
    """An error response.

    Args:
        status: HTTP status.
        message: what is wrong, and what would be right.
        param: name of the wrong field.
        code: a short name of the error, for programs.
        headers: headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # quoted input may not be valid text
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        kind = "server_error" if self.status >= 500 else _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def reason(self) -> str:
        """Why, in a word, as a label of metrics: never text from a client."""
        return self.code if self.code in REASONS else _KINDS.get(self.status, "invalid_request_error")

    def body_at(self, path: str) -> dict[str, Any]:
        """The JSON body for a path: clients of AUTOMATIC1111's API show its `detail`."""
        if not path.startswith("/sdapi/"):
            return self.body
        return {**self.body, "detail": self.message, "errors": self.message}


REASONS = frozenset(
    {
        *("cancelled", "client_disconnected", "closing", "incomplete_form", "insufficient_scope", "invalid_api_key"),
        *(
            "invalid_http",
            "invalid_image",
            "invalid_url",
            "memory_full",
            "model_not_found",
            "not_found",
            "queue_full",
        ),
        *("quota_exceeded", "rate_limit_exceeded", "superseded", "too_large", "wrong_frame", "wrong_host"),
        "wrong_origin",
    }
)
"""The codes that are counted by themselves; other refusals are counted by their kind."""


def as_api_error(error: Exception) -> ApiError:
    """An error of the desk with its HTTP status; anything else is an internal server error."""
    match error:
        case ApiError():
            return error
        case NotFound():
            return ApiError(404, str(error), error.field or None, error.code)
        case InputError():
            return ApiError(400, str(error), error.field or None, error.code)
        case RequestError():
            return ApiError(400, str(error), error.field or None)
        case ClientDisconnect():
            return ApiError(499, "the client left while it was sending", None, "client_disconnected")
        case Busy():
            return ApiError(429, str(error), None, error.code, _retry_after(error.retry_after))
        case ShuttingDown():
            return ApiError(503, str(error), None, "closing", _NO_RETRY)
        case Stopped():
            code = "superseded" if isinstance(error, Superseded) else "cancelled"
            return ApiError(499, str(error), None, code, _NO_RETRY)
        case _:
            return ApiError(500, "something went wrong here; the log has more")


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after-ms": str(int(1000 * seconds)), "retry-after": str(-int(-seconds // 1))}


_NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients retry responses of 500 and above automatically, unless told otherwise."""
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 499: "request_cancelled"}
