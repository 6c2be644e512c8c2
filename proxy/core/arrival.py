"""A request read by its rule: operation, key, identity, fingerprint. Pure; ``explain`` prints what this says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.core.documents import RequestDocument
from proxy.core.expressions import Expression, ExpressionFailed, yields
from proxy.core.fingerprint import fingerprint
from proxy.core.keys import KeyFound, KeyInvalid, canonical_text, digest, find_key, key_hash
from proxy.core.model import Identity, KeyHash, Request
from proxy.core.policy import SAFE_METHODS, Native, Operation, Provider, normal_path
from proxy.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Secrets:
    """Random keys made with the ledger and kept in it."""

    key: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deduplicated request, ready to be decided on."""

    request: Request
    provider: Provider
    operation: Operation
    document: RequestDocument
    found: KeyFound
    identity: Identity
    key_hash: KeyHash
    fingerprint: str
    credential: str | None
    native: Native | None  # in force for this request
    failed_expressions: int = 0

    @property
    def shown_key(self) -> str:
        """The key as people may see it: a given key as given, a computed one as its digest."""
        return self.identity.key[2:]


@dataclass(frozen=True, slots=True)
class Unkeyed:
    """No key, and the rule lets such a request pass: no protection."""

    reason: Reason = Reason.NO_KEY


@dataclass(frozen=True, slots=True)
class Refused:
    """The rule cannot be applied to this request."""

    reason: Reason
    detail: str


def candidates(provider: Provider, method: str, path: str) -> Iterator[Operation]:
    """Operations whose line matches, in order; ``when`` is still to be asked of the whole request."""
    return (operation for operation in provider.operations if operation.matches(method, path))


def choose(provider: Provider, document: RequestDocument) -> Operation | None:
    """The operation that this request meets, None where none does."""
    request = document.request
    for operation in candidates(provider, request.method, request.path):
        if operation.when is None or _is_true(operation.when, document):
            return operation
    return None


def unmatched_rule(provider: Provider, method: str) -> Operation | Reason:
    """What happens to a request that no operation matches: a rule, or the reason it passes or is refused."""
    if method in SAFE_METHODS:
        return Reason.SAFE_METHOD
    if isinstance(provider.unmatched, Operation):
        return provider.unmatched
    return Reason.NO_OPERATION if provider.unmatched == "pass" else Reason.PROVIDER_UNKNOWN


def prepare(
    provider: Provider, operation: Operation, document: RequestDocument, secrets: Secrets
) -> Prepared | Unkeyed | Refused:
    """Read key, identity and fingerprint. Validates the key before anything is looked up."""
    request = document.request
    document = document.told(fingerprint=_fingerprint(secrets, operation, document))  # a key may be made of it
    try:
        search = find_key(operation.key, document)
    except KeyInvalid as problem:
        return Refused(Reason.KEY_INVALID, f"{problem} Nothing was sent; send the request again with a valid key.")
    if search.found is None:
        if not operation.key.required:
            return Unkeyed()
        return Refused(Reason.KEY_MISSING, _missing(operation, document))
    identity = Identity(
        provider=provider.id,
        caller=request.caller,
        scope=tuple(_text(part, document) for part in operation.scope),
        operation=_operation_part(provider, operation, request),
        key=search.found.key,
    )
    return Prepared(
        request=request,
        provider=provider,
        operation=operation,
        document=document,
        found=search.found,
        identity=identity,
        key_hash=key_hash(secrets.key, identity),
        fingerprint=str(document["fingerprint"]),
        credential=_credential(secrets, operation, document),
        native=native_in_force(operation, document),
        failed_expressions=search.failed,
    )


def _operation_part(provider: Provider, operation: Operation, request: Request) -> str:
    """A rule for everything that no operation matches stands for as many calls as there are methods and paths."""
    if not operation.path_in_identity:
        return operation.id
    return f"{operation.id} {request.method} {normal_path(provider.base_path + request.path)}"


def native_in_force(operation: Operation, document: RequestDocument) -> Native | None:
    """The operation's native key, unless the provider ignores it for this request."""
    native = operation.native
    if native is None or (native.ignored_when is not None and _is_true(native.ignored_when, document)):
        return None
    return native


def _fingerprint(secrets: Secrets, operation: Operation, document: RequestDocument) -> str:
    places = [place for place in (operation.native.place if operation.native else None, operation.tag) if place]
    return fingerprint(secrets.fingerprint, document, ignore=operation.fingerprint_ignore, omit=tuple(places))


def _credential(secrets: Secrets, operation: Operation, document: RequestDocument) -> str | None:
    if operation.credential is None:
        return None
    text = _text(operation.credential, document)
    return digest(secrets.key, text) if text else None


def _missing(operation: Operation, document: RequestDocument) -> str:
    sources = " or ".join(alternative.text for alternative in operation.key.alternatives)
    problem = document.body_problem
    because = f" The body could not be read: {problem}." if problem else ""
    return f"Operation {operation.name!r} needs a key from {sources}, and the request yields none.{because}"


def _text(expression: Expression, document: RequestDocument) -> str:
    try:
        value = expression.search(document)
    except ExpressionFailed:
        return ""
    return canonical_text(value) if yields(value) else ""


def _is_true(expression: Expression, document: RequestDocument) -> bool:
    try:
        return expression.search(document) is True
    except ExpressionFailed:
        return False
