"""A preset's own examples, run: the request through its rule, each answer through what counts as its outcome.

Used by the tests and by ``dedup-proxy providers test``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from proxy.config import presets
from proxy.config.checks import providers as provider_checks
from proxy.config.compile import compile_provider
from proxy.config.effective import read_preset
from proxy.config.models.preset import About, Example, ExampleAnswer, ExampleRequest
from proxy.config.problems import ConfigInvalid, Mark, Problems
from proxy.config.reading import read
from proxy.config.source import parse
from proxy.config.substitution import Substitution
from proxy.config.tree import Mapping
from proxy.core import arrival, outcome
from proxy.core.documents import RequestDocument, answer_document, request_document
from proxy.core.keys import KeySearch, find_key
from proxy.core.model import Answer, Headers, Request
from proxy.core.policy import Operation, Place, Provider
from proxy.core.ports import Phase, SendFailed
from proxy.core.states import Event

_OUTCOMES = {
    Event.ANSWERED: "succeeded",
    Event.DECLINED: "rejected",
    Event.TURNED_AWAY: "not_executed",
    Event.ANSWER_LOST: "ambiguous",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset compiled by itself, and what it says about itself."""

    provider: Provider
    about: About


def load_preset(name: str) -> Preset:
    """The preset *name* that comes with the proxy. Raises :class:`ConfigInvalid` with all problems."""
    problems = Problems()
    file = f"providers/{name}.yaml"
    tree = parse(presets.text_of(name), file, Substitution({}, Path()), problems) or Mapping(mark=Mark(file, 1))
    found = read_preset(tree, problems)
    provider_checks.check_alone(found, problems)
    about = read(About, tree.only(presets.PRESET_ONLY), problems).rules
    if len(problems) or about is None:
        raise ConfigInvalid(problems)
    return Preset(compile_provider(found, Mapping()), about)


def run(example: Example, provider: Provider) -> Iterator[str]:
    """What doesn't hold, one sentence each; nothing if all does."""
    document = request_document(_request(example.request), fingerprint="0")
    operation = _operation(provider, document)
    name = operation.name if operation is not None else None
    if name != example.operation:
        yield f"met operation {name}, expected {example.operation}"
        return
    if operation is None:
        return
    search = find_key(operation.key, document)
    yield from _key(search, example)
    native = arrival.native_in_force(operation, document)
    place = _place(native.place if native is not None else None)
    if place != example.outgoing:
        yield f"the outgoing key goes to {place}, expected {example.outgoing}"
    for answer in example.answers:
        told, behind = _outcome(operation, document, answer)
        if told != answer.outcome:
            yield f"status {answer.status} on attempt {answer.attempt} is {told}, expected {answer.outcome}"
        if answer.behind_key is not None and behind != answer.behind_key:
            yield f"status {answer.status}: behind_key is {behind}, expected {answer.behind_key}"


def _operation(provider: Provider, document: RequestDocument) -> Operation | None:
    found = arrival.choose(provider, document)
    if found is not None:
        return found
    rule = arrival.unmatched_rule(provider, document.request.method)
    return rule if isinstance(rule, Operation) else None


def _key(search: KeySearch, example: Example) -> Iterator[str]:
    source = search.found.source if search.found is not None else None
    if source != example.key:
        yield f"the key comes from {source}, expected {example.key}"
    if search.found is not None and search.found.is_computed != example.computed:
        yield f"computed is {search.found.is_computed}, expected {example.computed}"


def _outcome(operation: Operation, document: RequestDocument, answer: ExampleAnswer) -> tuple[str, bool]:
    if not isinstance(answer.status, int):
        return _OUTCOMES[outcome.of_failure(operation, SendFailed(Phase.WAIT, "timeout", "an example")).event], False
    told = document.told(fingerprint="0", attempt=answer.attempt, doubt=answer.doubt)
    body, kind = (
        (json.dumps(answer.body), "application/json") if answer.text is None else (str(answer.text), "text/html")
    )
    headers = (
        *_lines(answer.headers),
        *(((b"Content-Type", kind.encode()),) if "content-type" not in answer.headers else ()),
    )
    full = Answer(answer.status, headers, b"" if answer.body is None and answer.text is None else body.encode())
    found = outcome.of_answer(
        operation,
        arrival.native_in_force(operation, document),
        answer_document(full, told, body_type=operation.body_type),
        status=answer.status,
        method=document.request.method,
        attempt=answer.attempt,
    )
    return _OUTCOMES[found.event], found.behind_key


def _request(example: ExampleRequest) -> Request:
    headers = _lines(example.headers)
    body = b""
    if example.form:
        headers = (*headers, (b"Content-Type", b"application/x-www-form-urlencoded"))
        body = urlencode(example.form).encode()
    elif example.body is not None:
        headers = (*headers, (b"Content-Type", b"application/json"))
        body = json.dumps(example.body).encode()
    return Request(str(example.method), "", str(example.target), headers, body, caller="")


def _lines(headers: dict[str, str]) -> Headers:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


def _place(place: Place | None) -> str | None:
    return f"{place.where} {place.name}" if place is not None else None
