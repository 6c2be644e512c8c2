"""Requests and answers for tests of what reads them."""

from __future__ import annotations

import json
from typing import Any

from proxy.core.documents import RequestDocument, request_document
from proxy.core.model import Answer, Headers, Request

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=XX"


def request(
    body: bytes | str = b"",
    content_type: str | None = None,
    *,
    method: str = "POST",
    target: str = "/charges",
    headers: Headers = (),
) -> Request:
    """A request of caller ``shop``; *content_type* stands for its header."""
    kind: Headers = () if content_type is None else ((b"Content-Type", content_type.encode()),)
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return Request(method, "api.pay.example", target, kind + headers, raw, "shop")


def document(body: bytes | str = b"", content_type: str | None = None, **fields: Any) -> RequestDocument:
    """The document of :func:`request`."""
    return request_document(request(body, content_type, **fields), fingerprint=None)


def json_document(value: Any) -> RequestDocument:
    """The document of a request with *value* as its JSON body."""
    return document(json.dumps(value), JSON)


def answer(status: int = 200, body: bytes | str = b"", content_type: str | None = JSON, **fields: Any) -> Answer:
    """A provider's answer."""
    headers: Headers = () if content_type is None else ((b"Content-Type", content_type.encode()),)
    raw = body.encode() if isinstance(body, str) else body
    return Answer(status, headers, raw, **fields)


def multipart(*parts: bytes) -> bytes:
    """A multipart body of *parts*, each from its head to its content, with boundary ``XX``."""
    return b"".join(b"--XX\r\n%b\r\n" % part for part in parts) + b"--XX--\r\n"


def field(name: str, value: bytes) -> bytes:
    """A multipart field."""
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value)


def file(name: str, filename: str, value: bytes) -> bytes:
    """A multipart file."""
    head = b'Content-Disposition: form-data; name="%b"; filename="%b"' % (name.encode(), filename.encode())
    return head + b"\r\nContent-Type: text/plain\r\n\r\n" + value
