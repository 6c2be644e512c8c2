"""The hot path's SQL: constant text, made once for each dialect.

A batch goes over as one JSON parameter. The two dialects differ in how they unfold it into rows and in where ledger time
comes from; both stand in front of each statement as ``WITH batch AS (...), rows AS (...)``, and the rest is the same text.

``batch`` is one row, read once: ``now``, and ``source``, the status that an ordinary outcome leaves. That is not written as a
literal because PostgreSQL might then look through the index of all entries in flight, instead of the primary key.
"""

# ruff: noqa: S608 - the text is put together from the names of our own columns, never from a value

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.ledger.rows import ANSWER_COLUMNS, CLAIM_FIELDS, ENTRY_COLUMNS, RECORD_FIELDS, TOUCH_FIELDS

_ENTRY: Final = ", ".join(f"entry.{name}" for name in ENTRY_COLUMNS)
_WITH_ANSWER: Final = f"{_ENTRY}, {', '.join(f'answer.{name}' for name in ANSWER_COLUMNS)}"
_JOIN_ANSWER: Final = "LEFT JOIN answer ON answer.key_hash = entry.key_hash AND answer.generation = entry.generation"

_STAMPED: Final = (
    "claimed_at", "created_at", "updated_at", "last_request_at", "first_sent_at",
)  # fmt: skip
_DRAFTED: Final = tuple(name for name in CLAIM_FIELDS if name not in ("lease_us", "quiet_us"))

# A first generation only where the key has no row at all: the primary key alone would let one in again beside a later
# generation once generation 1 has been purged.
_CLAIM: Final = f"""
INSERT INTO entry (generation, {", ".join(_DRAFTED)}, {", ".join(_STAMPED)}, quiet_at, lease_until, assumed, is_open, superseded)
SELECT 1, {", ".join(f"r.{name}" for name in _DRAFTED)}, {", ".join("batch.now" for _ in _STAMPED)},
       batch.now + r.quiet_us, batch.now + r.lease_us, false, true, false
FROM rows AS r CROSS JOIN batch
WHERE NOT EXISTS (SELECT 1 FROM entry AS other WHERE other.key_hash = r.key_hash)
ORDER BY r.key_hash
ON CONFLICT (key_hash, generation) DO NOTHING
RETURNING entry.key_hash, entry.created_at
"""

_RECORD: Final = f"""
UPDATE entry SET status = r.status, reason = r.reason, is_open = r.is_open, upstream_status = r.upstream_status,
       retry_at = r.retry_at, revise = r.status <> 'succeeded' AND (entry.revise OR r.revise), updated_at = batch.now
FROM rows AS r CROSS JOIN batch
WHERE entry.key_hash = r.key_hash AND entry.generation = r.generation AND entry.token = r.token
  AND entry.status = batch.source AND entry.is_open AND entry.earlier IS NULL
RETURNING {_ENTRY}
"""

_TOUCH: Final = """
UPDATE entry SET last_request_at = batch.now
FROM rows AS r CROSS JOIN batch
WHERE entry.key_hash = r.key_hash AND entry.generation = r.generation AND entry.last_request_at < batch.now
RETURNING entry.last_request_at
"""

_READ: Final = f"""
SELECT {_WITH_ANSWER} FROM rows CROSS JOIN entry {_JOIN_ANSWER}
WHERE entry.key_hash = rows.key_hash AND NOT entry.superseded
"""

_ANSWER_COLUMNS: Final[Mapping[str, str]] = {
    "key_hash": "uuid", "generation": "integer", "status": "integer", "headers": "bytea", "body": "bytea", "kept": "text",
    "attempt": "integer", "outcome": "text", "created_at": "bigint",
}  # fmt: skip
_ANSWER_INTO: Final = f"INSERT INTO answer ({', '.join(_ANSWER_COLUMNS)})"
_ANSWER_AGAIN: Final = "ON CONFLICT (key_hash, generation) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _ANSWER_COLUMNS if name not in ("key_hash", "generation")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """SQL text of one dialect. Where ledger time is told, its parameters come last (:meth:`LedgerClock.stamp`)."""

    claim: str  # rows, stamp -> key_hash, created_at of those that landed
    record: str  # rows, stamp -> the entry as it now is, of those that landed
    touch: str  # rows, stamp -> last_request_at of those that moved on
    read: str  # keys -> latest generation of each, with its answer
    lock: str  # key_hash, generation -> that row with its answer, locked until the transaction ends
    answer: str  # see answer_parameters
    now: str | None  # stamp -> ledger time, what the clock itself says; None where the process tells it
    mark: str  # ledger time as text, ledger time
    answers_as_columns: bool  # one statement with a list for each column, instead of one execution for each row

    def answer_parameters(self, rows: Sequence[tuple[Any, ...]]) -> Any:
        """The parameters that store *rows*, each in the order of the columns of ``answer``."""
        return tuple(list(column) for column in zip(*rows, strict=True)) if self.answers_as_columns else list(rows)


def _sqlite() -> Statements:
    def unfolded(fields: Mapping[str, str]) -> str:
        fields_of = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in fields)
        return (
            f"WITH batch AS (SELECT ?2 AS now, 'in_flight' AS source), rows AS (SELECT {fields_of} FROM json_each(?1))"
        )

    return Statements(
        claim=unfolded(CLAIM_FIELDS) + _CLAIM,
        record=unfolded(RECORD_FIELDS) + _RECORD,
        touch=unfolded(TOUCH_FIELDS) + _TOUCH,
        read="WITH rows AS (SELECT value AS key_hash FROM json_each(?1))" + _READ,
        lock=f"SELECT {_WITH_ANSWER} FROM entry {_JOIN_ANSWER} WHERE entry.key_hash = ?1 AND entry.generation = ?2",
        answer=f"{_ANSWER_INTO} VALUES ({', '.join('?' for _ in _ANSWER_COLUMNS)}) {_ANSWER_AGAIN}",
        now=None,
        mark="UPDATE meta SET value = ?1 WHERE name = 'clock' AND CAST(value AS INTEGER) < ?2",
        answers_as_columns=False,
    )


def _postgresql() -> Statements:
    mark = "SELECT value::bigint FROM meta WHERE name = 'clock'"

    def wall(offset: int) -> str:
        return f"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + ${offset}::bigint"

    def time(offset: int, floor: int) -> str:
        return f"greatest({wall(offset)}, ${floor}::bigint, ({mark}))"

    def unfolded(fields: Mapping[str, str]) -> str:
        typed = ", ".join(f"{name} {kind}" for name, kind in fields.items())
        batch = f"batch AS MATERIALIZED (SELECT {time(2, 3)} AS now, 'in_flight' AS source)"
        return f"WITH {batch}, rows AS (SELECT * FROM json_to_recordset($1::text::json) AS r({typed}))"

    columns = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_ANSWER_COLUMNS.values(), 1))
    return Statements(
        claim=unfolded(CLAIM_FIELDS) + _CLAIM,
        record=unfolded(RECORD_FIELDS) + _RECORD,
        touch=unfolded(TOUCH_FIELDS) + _TOUCH,
        read="WITH rows AS (SELECT value::uuid AS key_hash FROM json_array_elements_text($1::text::json))" + _READ,
        lock=f"SELECT {_WITH_ANSWER} FROM entry {_JOIN_ANSWER} "
        "WHERE entry.key_hash = $1::uuid AND entry.generation = $2 FOR UPDATE OF entry",
        answer=f"{_ANSWER_INTO} SELECT * FROM unnest({columns}) {_ANSWER_AGAIN}",
        now=f"SELECT {time(1, 2)}, {wall(1)}",
        mark="UPDATE meta SET value = $1 WHERE name = 'clock' AND value::bigint < $2",
        answers_as_columns=True,
    )


SQLITE: Final = _sqlite()
POSTGRESQL: Final = _postgresql()
