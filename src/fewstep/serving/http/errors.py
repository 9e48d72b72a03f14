"""Errors as OpenAI's API has them: {"error": {"message", "type", "param", "code"}}, always all four."""

from __future__ import annotations

from typing import Any

from fewstep.serving.engine.jobs import ShuttingDown, Stopped, Superseded


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: what was wrong, and what would be right.
        param: the field that was wrong.
        code: for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # what it quotes may be no text
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def busy(message: str, retry_after: float) -> ApiError:
    """Too much is going on: come back after `retry_after` seconds."""
    wait = {"retry-after-ms": str(int(1000 * retry_after)), "retry-after": str(-int(-retry_after // 1))}
    return ApiError(429, message, None, "queue_full", wait)


def stopped(error: Stopped) -> ApiError:
    """A job ended before its answer: because the server closes, or because nobody waits for it any more."""
    never = {"x-should-retry": "false"}
    if isinstance(error, ShuttingDown):
        return ApiError(503, str(error), None, "closing", never)
    code = "superseded" if isinstance(error, Superseded) else "cancelled"
    return ApiError(499, str(error), None, code, never)


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 499: "request_cancelled"}
