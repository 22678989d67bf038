"""What the server says instead of an answer: OpenAI's form of an error."""

from typing import Any

KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that gets no answer: an HTTP status and one sentence that says why.

    ``param``: the field that is wrong. ``code``: a word for programs. ``headers``: of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that the client gets."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": self.message,
            "type": KINDS.get(self.status, kind),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def failed() -> Refused:
    """What a client is told of a fault of the server's own."""
    return Refused("the server failed at this request; its log says more", status=500)


def too_long(prompt: int, count: int, context: int) -> Refused:
    """A prompt, with the tokens that shall follow it, beyond the chip's context."""
    needed = prompt + max(count - 1, 0)  # the last token is said, not run
    return Refused(
        f"{prompt} prompt tokens and {count} new ones need {needed} positions, the chip has "
        f"{context}; nothing is cut off: send less, or ask for fewer tokens",
        code="context_length_exceeded",
    )


def surely_too_long(least: int, context: int) -> Refused:
    """A text of at least so many tokens, beyond the chip's context."""
    return Refused(
        f"the prompt has {least} tokens or more, the chip has {context} positions; nothing is cut "
        "off: send less",
        code="context_length_exceeded",
    )
