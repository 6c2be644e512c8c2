"""What an expression sees: one document per request, one per answer. Parts are read when they are first asked for.

A request shows ``method host path query headers params caller body graphql fingerprint attempt doubt``, and the same
under ``request``. An answer shows its own ``status headers body`` and the request's names that these don't cover; all of
the request's are under ``request``. Header names are lower-case; a header or parameter met twice is a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final, Literal

from proxy.core.bodies import Body, Kind, read_body
from proxy.core.forms import TooManyFields, gather, read_pairs
from proxy.core.graphql_text import read_graphql
from proxy.core.model import Answer, Headers, Request

REQUEST_NAMES: Final = frozenset(
    {
        "method",
        "host",
        "path",
        "query",
        "headers",
        "params",
        "caller",
        "body",
        "graphql",
        "fingerprint",
        "attempt",
        "doubt",
    }
)
"""The names at the top of a request document, beside ``request``."""

ANSWER_NAMES: Final = REQUEST_NAMES | {"status"}
"""The names at the top of an answer document, beside ``request``."""

BodyType = Literal["json", "form", "xml", "text", "any"]
"""What a rule expects of an answer's body."""


class Document(Mapping[str, object]):
    """A mapping whose values are made when they are asked for. Compared by identity: it is looked into, not at."""

    names: frozenset[str]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class RequestDocument(Document):
    """A request as expressions see it. Copies with another fingerprint, attempt or doubt share what was read."""

    names = REQUEST_NAMES | {"request"}

    def __init__(self, parts: _RequestParts) -> None:
        self.parts: Final = parts

    def __getitem__(self, name: str) -> object:
        return self.parts if name == "request" else self.parts[name]

    @property
    def request(self) -> Request:
        """The request that this shows."""
        return self.parts.read.request

    @property
    def body(self) -> Body:
        """The request's body as read, with its kind and what is wrong with it."""
        return self.parts.read.body

    @property
    def body_problem(self) -> str | None:
        """Why the body can't be read, None if it can or if there is none."""
        return self.body.problem

    def told(self, *, fingerprint: str | None, attempt: int = 1, doubt: bool = False) -> RequestDocument:
        """The same request with what became known of it since."""
        return RequestDocument(_RequestParts(self.parts.read, fingerprint=fingerprint, attempt=attempt, doubt=doubt))


class AnswerDocument(Document):
    """An answer as expressions see it."""

    names = ANSWER_NAMES | {"request"}

    def __init__(self, answer: Answer, request: RequestDocument, body_type: BodyType) -> None:
        self.answer: Final = answer
        self.request: Final = request
        self.body_type: Final = body_type

    def __getitem__(self, name: str) -> object:
        match name:
            case "status":
                return self.answer.status
            case "headers":
                return self._headers
            case "body":
                return self.body.value
            case _:
                return self.request[name]

    @cached_property
    def body(self) -> Body:
        """The answer's body as read. One that broke off isn't read."""
        if not self.answer.complete:
            return Body(Kind.BYTES, "", problem="it is incomplete")
        assume = None if self.body_type == "any" else Kind(self.body_type)
        return read_body(self.answer.body, self.answer.headers, assume=assume)

    @property
    def is_body_readable(self) -> bool:
        """Whether a condition on ``body`` means anything: complete, decoded, parsed, unambiguous, of the expected type."""
        body = self.body
        if body.problem is not None or body.has_repeated_names:
            return False
        match self.body_type:
            case "any":
                return True
            case "text":
                return body.kind is not Kind.BYTES
            case "form":
                return body.kind in (Kind.FORM, Kind.MULTIPART)
            case expected:
                return body.kind == expected

    @cached_property
    def _headers(self) -> dict[str, object]:
        return header_values(self.answer.headers)


def request_document(
    request: Request, *, fingerprint: str | None, attempt: int = 1, doubt: bool = False
) -> RequestDocument:
    """The document of *request*. ``doubt``: an attempt before this one is open. Nothing is read yet."""
    return RequestDocument(_RequestParts(_Read(request), fingerprint=fingerprint, attempt=attempt, doubt=doubt))


def answer_document(answer: Answer, request: RequestDocument, *, body_type: BodyType = "json") -> AnswerDocument:
    """The document of *answer* to *request*. *body_type* is what its rule expects, and how a vaguely typed body is read."""
    return AnswerDocument(answer, request, body_type)


def header_values(headers: Headers) -> dict[str, object]:
    """Headers by lower-case name; a name met twice is the list of its lines."""
    return gather((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


class _Read:
    """What was read of a request, kept: reading is a pure function of the request, so once is enough."""

    def __init__(self, request: Request) -> None:
        self.request: Final = request

    @cached_property
    def headers(self) -> dict[str, object]:
        return header_values(self.request.headers)

    @cached_property
    def params(self) -> dict[str, object] | None:
        try:
            return gather(
                (pair.name, pair.value) for pair in read_pairs(self.request.query.encode("utf-8", "surrogatepass"))
            )
        except TooManyFields:
            return None

    @cached_property
    def body(self) -> Body:
        return read_body(self.request.body, self.request.headers)

    @cached_property
    def graphql(self) -> dict[str, object] | None:
        return read_graphql(self.body.value) if self.body.kind in (Kind.JSON, Kind.GRAPHQL) else None


class _RequestParts(Document):
    """What is under ``request``: the names of a request without a way back to the top."""

    names = REQUEST_NAMES

    def __init__(self, read: _Read, *, fingerprint: str | None, attempt: int, doubt: bool) -> None:
        self.read: Final = read
        self._told: Final = {"fingerprint": fingerprint, "attempt": attempt, "doubt": doubt}

    def __getitem__(self, name: str) -> object:
        read, request = self.read, self.read.request
        match name:
            case "method" | "host" | "path" | "query" | "caller":
                return getattr(request, name)
            case "headers" | "params" | "graphql":
                return getattr(read, name)
            case "body":
                return read.body.value
            case _:
                return self._told[name]
