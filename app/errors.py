"""What can go wrong in a way the caller should know: raised by services, told by the web layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: a JSON pointer into the body, or a parameter's name."""

    pointer: str
    detail: str
    where: str = "body"


class ProblemError(Exception):
    """A refusal with a stable code word. Subclasses fix the HTTP status and the title."""

    status = 500
    title = "Internal error"
    default_code = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.errors = tuple(errors)
        self.retry_after = retry_after


class BadRequestError(ProblemError):
    """The request can't be understood."""

    status, title, default_code = 400, "Bad request", "bad_request"


class UnauthenticatedError(ProblemError):
    """No valid key."""

    status, title, default_code = 401, "Unauthenticated", "unauthenticated"


class MissingScopeError(ProblemError):
    """The key is valid but may not do this."""

    status, title, default_code = 403, "Missing scope", "missing_scope"


class NotFoundError(ProblemError):
    """There is no such thing, or none that this key may see."""

    status, title, default_code = 404, "Not found", "not_found"


class ConflictError(ProblemError):
    """The request contradicts what is stored."""

    status, title, default_code = 409, "Conflict", "conflict"


class GoneError(ProblemError):
    """It was yours, and time ran out."""

    status, title, default_code = 410, "Gone", "gone"


class InvalidError(ProblemError):
    """Fields are wrong; each is named."""

    status, title, default_code = 422, "Invalid request", "invalid"

    @classmethod
    def about(cls, errors: Sequence[FieldError]) -> InvalidError:
        """An error about these fields, at least one, whose detail names the first."""
        first, more = errors[0], len(errors) - 1
        detail = f"{first.pointer.lstrip('/') or first.where}: {first.detail}"
        return cls(f"{detail} (and {more} more)" if more else detail, errors=errors)


class UnavailableError(ProblemError):
    """Something this service stands on is away; try again."""

    status, title, default_code = 503, "Unavailable", "unavailable"


def invalid_field(pointer: str, detail: str, *, where: str = "body") -> InvalidError:
    """An InvalidError about one field."""
    return InvalidError.about([FieldError(pointer, detail, where)])
