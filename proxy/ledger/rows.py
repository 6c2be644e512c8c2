"""Between the core's values and columns: entries, answers, history rows, and the JSON rows that a batch is made of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import sqlalchemy as sa
import zstandard

from proxy.core.model import Attempt, Entry, Headers, Kept, KeyHash, Status, StoredAnswer, Token
from proxy.core.ports import Claim, LedgerUnavailable, Write
from proxy.ledger import tables
from proxy.ledger.guard import ORDINARY, Trace, is_readable
from proxy.ledger.sealing import Keyring, Unreadable, is_sealed, place

ENTRY_COLUMNS: Final = tuple(column.name for column in tables.entry.columns if column.name != "superseded")
"""The columns of a row as every statement here returns them, in this order."""

ANSWER_COLUMNS: Final = ("status", "headers", "body", "kept", "attempt", "outcome")
"""What follows them where the stored answer is read too."""

Packed = tuple[int, bytes, bytes, str, int]
"""An answer as columns: status, headers, body, kept, attempt."""

_BESIDE_KEY: Final = frozenset({"key_hash", "generation"})
_WIDTH: Final = len(ENTRY_COLUMNS)


def hex32(value: str | uuid.UUID) -> str:
    """32 lower hex digits, however the driver returns a UUID."""
    if isinstance(value, uuid.UUID):
        return value.hex
    return value if len(value) == 32 else value.replace("-", "")


def entry_from_row(row: Sequence[Any]) -> Entry:
    """The entry in *row*, which holds :data:`ENTRY_COLUMNS`; what follows them is left alone."""
    (
        key_hash, generation, provider, caller, scope, operation, key, fingerprint, fingerprint_frozen, credential,
        outgoing_key, born_at, revision, revise, status, reason, assumed, resolved_by, number, token, claimed_at, quiet_at,
        is_open, earlier, lease_until, created_at, updated_at, last_request_at, first_sent_at, retry_at, upstream_status,
    ) = row[:_WIDTH]  # fmt: skip
    attempt = Attempt(number, Token(hex32(token)), claimed_at, quiet_at)
    open_before = tuple(Attempt(*fields) for fields in orjson.loads(earlier)) if earlier else ()
    return Entry(
        key_hash=KeyHash(hex32(key_hash)), generation=generation, provider=provider, caller=caller,
        scope=tuple(orjson.loads(scope)), operation=operation, key=key, fingerprint=fingerprint,
        fingerprint_frozen=bool(fingerprint_frozen), credential=credential, outgoing_key=outgoing_key, born_at=born_at,
        revision=revision, revise=bool(revise), status=Status(status), reason=reason, assumed=bool(assumed),
        resolved_by=resolved_by, attempt=attempt, open=(*open_before, attempt) if is_open else open_before,
        lease_until=lease_until, created_at=created_at, updated_at=updated_at, last_request_at=last_request_at,
        first_sent_at=first_sent_at, retry_at=retry_at, upstream_status=upstream_status,
    )  # fmt: skip


def entry_with_answer(row: Sequence[Any], keyring: Keyring) -> Entry:
    """The entry in *row* with its stored answer; :data:`ANSWER_COLUMNS` follow :data:`ENTRY_COLUMNS`.

    An answer that can't be read, for want of its key or because it was changed, is a tombstone: there was one.
    """
    entry = entry_from_row(row)
    if row[_WIDTH] is None:
        return entry
    status, headers, body, kept, number, outcome = row[_WIDTH:]
    answer = StoredAnswer(status, (), b"", Kept(kept), number)
    if not is_readable(entry, answer, outcome):
        return entry
    if answer.kept is not Kept.TOMBSTONE:
        try:
            answer = _unpack(answer, headers, body, entry=entry, keyring=keyring)
        except Unreadable as problem:
            keyring.tell(entry.id, problem)
            answer = replace(answer, kept=Kept.TOMBSTONE)
    return replace(entry, answer=answer)


def columns_of(entry: Entry) -> dict[str, Any]:
    """All columns of *entry*, for a row that is written whole. ``superseded`` is the statement's business."""
    earlier = [[a.number, a.token, a.claimed_at, a.quiet_at] for a in entry.open if a.token != entry.attempt.token]
    return {
        "key_hash": entry.key_hash,
        "generation": entry.generation,
        "provider": entry.provider,
        "caller": entry.caller,
        "scope": _dump(entry.scope),
        "operation": entry.operation,
        "key": entry.key,
        "fingerprint": entry.fingerprint,
        "fingerprint_frozen": entry.fingerprint_frozen,
        "credential": entry.credential,
        "outgoing_key": entry.outgoing_key,
        "born_at": entry.born_at,
        "revision": entry.revision,
        "revise": entry.revise,
        "status": entry.status.value,
        "reason": str(entry.reason),
        "assumed": entry.assumed,
        "resolved_by": entry.resolved_by,
        "attempt": entry.attempt.number,
        "token": entry.attempt.token,
        "claimed_at": entry.attempt.claimed_at,
        "quiet_at": entry.attempt.quiet_at,
        "is_open": any(a.token == entry.attempt.token for a in entry.open),
        "earlier": _dump(earlier) if earlier else None,
        "lease_until": entry.lease_until,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "last_request_at": entry.last_request_at,
        "first_sent_at": entry.first_sent_at,
        "retry_at": entry.retry_at,
        "upstream_status": entry.upstream_status,
    }


def changed_columns(entry: Entry) -> dict[str, Any]:
    """The columns that a transition may change: all but the primary key."""
    return {name: value for name, value in columns_of(entry).items() if name not in _BESIDE_KEY}


# -- JSON rows of a batch: name and PostgreSQL type of each field -----------------------------------------------------------

CLAIM_FIELDS: Final[Mapping[str, str]] = {
    "key_hash": "uuid", "provider": "text", "caller": "text", "scope": "text", "operation": "text", "key": "text",
    "fingerprint": "text", "fingerprint_frozen": "boolean", "credential": "text", "outgoing_key": "text",
    "born_at": "bigint", "revision": "integer", "revise": "boolean", "status": "text", "reason": "text",
    "attempt": "integer", "token": "uuid", "lease_us": "bigint", "quiet_us": "bigint",
}  # fmt: skip
RECORD_FIELDS: Final[Mapping[str, str]] = {
    "key_hash": "uuid", "generation": "integer", "token": "uuid", "status": "text", "reason": "text",
    "is_open": "boolean", "revise": "boolean", "upstream_status": "integer", "retry_at": "bigint",
}  # fmt: skip
TOUCH_FIELDS: Final[Mapping[str, str]] = {"key_hash": "uuid", "generation": "integer"}


def claim_row(claim: Claim) -> bytes:
    """A first claim as a JSON row. Raises :class:`LedgerUnavailable` where the draft holds text that no ledger can keep."""
    draft = claim.entry
    row = {
        "key_hash": draft.key_hash, "provider": draft.provider, "caller": draft.caller, "scope": _dump(draft.scope),
        "operation": draft.operation, "key": draft.key, "fingerprint": draft.fingerprint,
        "fingerprint_frozen": draft.fingerprint_frozen, "credential": draft.credential,
        "outgoing_key": draft.outgoing_key, "born_at": draft.born_at, "revision": draft.revision,
        "revise": draft.revise, "status": draft.status, "reason": draft.reason, "attempt": draft.attempt.number,
        "token": draft.attempt.token, "lease_us": claim.lease_us, "quiet_us": claim.quiet_us,
    }  # fmt: skip
    return _dump_bytes(row)


def record_row(write: Write) -> bytes | None:
    """The ordinary update as a JSON row; None where the event has none."""
    evidence = write.evidence
    if evidence.event not in ORDINARY:
        return None
    status, is_open = ORDINARY[evidence.event]
    succeeded = status is Status.SUCCEEDED
    row = {
        "key_hash": write.key_hash, "generation": write.generation, "token": evidence.token, "status": status,
        "reason": evidence.reason, "is_open": is_open, "revise": evidence.stores_failure and not succeeded,
        "upstream_status": evidence.upstream_status, "retry_at": None if succeeded else evidence.retry_at,
    }  # fmt: skip
    return _dump_bytes(row)


def touch_row(key_hash: KeyHash, generation: int) -> bytes:
    """A touch as a JSON row."""
    return _dump_bytes({"key_hash": key_hash, "generation": generation})


def json_rows(rows: Sequence[bytes]) -> str:
    """One parameter that holds all *rows*."""
    return (b"[" + b",".join(rows) + b"]").decode()


def json_keys(keys: Sequence[str]) -> str:
    """One parameter that holds all *keys*."""
    return _dump(keys)


# -- answers and history ----------------------------------------------------------------------------------------------


def pack(answer: StoredAnswer, key_hash: KeyHash, generation: int, *, keyring: Keyring) -> Packed:
    """*answer* of that entry as columns, sealed if there are keys. Takes time for a large body."""
    headers = orjson.dumps([[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers])
    body = zstandard.ZstdCompressor().compress(answer.body) if answer.body else b""
    if keyring.seals:
        at = _places(answer, key_hash, generation)
        headers, body = keyring.seal(headers, at[0]), keyring.seal(body, at[1])
    return answer.status, headers, body, answer.kept.value, answer.attempt


def trace_columns(entry: Entry, trace: Trace, seq: int) -> dict[str, Any]:
    """A history row of *entry*."""
    return {
        "key_hash": entry.key_hash,
        "generation": entry.generation,
        "seq": seq,
        "at": trace.at,
        "event": trace.event,
        "attempt": trace.attempt,
        "token": trace.token,
        "from_status": trace.from_status.value,
        "to_status": trace.to_status.value,
        "reason": str(trace.reason),
        "who": trace.who,
        "detail": _dump(trace.detail) if trace.detail else None,
    }


def trace_from_row(row: sa.RowMapping) -> Trace:
    """The history row in *row*."""
    return Trace(
        at=row["at"],
        event=row["event"],
        attempt=row["attempt"],
        token=Token(hex32(row["token"])),
        from_status=Status(row["from_status"]),
        to_status=Status(row["to_status"]),
        reason=row["reason"],
        who=row["who"],
        detail=orjson.loads(row["detail"]) if row["detail"] else {},
    )


def _places(answer: StoredAnswer, key_hash: KeyHash, generation: int) -> tuple[bytes, bytes]:
    """Where the headers and the body of *answer* stand. Its status and what is kept of it can't be changed either."""
    row = ("answer", key_hash, generation, answer.attempt, answer.status, answer.kept.value)
    return place(*row, "headers"), place(*row, "body")


def _unpack(answer: StoredAnswer, headers: bytes, body: bytes, *, entry: Entry, keyring: Keyring) -> StoredAnswer:
    """*answer* with the *headers* and the *body* that are stored. Raises :class:`Unreadable`."""
    if is_sealed(headers) or is_sealed(body):  # one of them in clear beside the other was put there by somebody else
        at = _places(answer, entry.key_hash, entry.generation)
        headers, body = keyring.open(headers, at[0]), keyring.open(body, at[1])
    try:
        plain = zstandard.ZstdDecompressor().decompress(body) if body else b""
        return replace(answer, headers=_load_headers(headers), body=plain)
    except (ValueError, TypeError, AttributeError, zstandard.ZstdError) as error:
        raise Unreadable("it is damaged") from error


def _load_headers(text: bytes) -> Headers:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in orjson.loads(text))


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _dump_bytes(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError as error:  # half a surrogate pair, or a number beyond 64 bits
        raise LedgerUnavailable(f"the ledger cannot keep this entry: {error}") from error
