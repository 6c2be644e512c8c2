"""One operation's models to its compiled rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.config.checks.operations import quiet
from proxy.config.compile_lookup import compile_lookup
from proxy.config.keys import IDEMPOTENCY_KEY, default_source, is_native_place, place_of, tag_place
from proxy.config.models.operation import Native, Operation, Outcome
from proxy.config.models.provider import Provider
from proxy.config.models.settle import Settle
from proxy.config.models.shared import Answers, Matcher, Store, Timeout
from proxy.config.patterns import compile_pattern
from proxy.config.problems import Problems
from proxy.config.reading import read
from proxy.config.tree import Mapping as MappingNode
from proxy.core import policy
from proxy.core.expressions import Expression, is_single_header
from proxy.core.keys import KeyAlternative, KeyRule
from proxy.core.model import Mode


def compile_operation(rules: Operation) -> policy.Operation:
    """The rule that *rules* mean."""
    native = compile_native(rules.native)
    lookup = rules.settle.lookup if "lookup" in settle_by(rules) else None
    return policy.Operation(
        id=str(rules.id or rules.name),
        name=str(rules.name),
        was=tuple(map(str, rules.was)),
        patterns=tuple(compile_pattern(line) for line in rules.match),
        when=rules.when,
        mode=Mode(rules.mode),
        key=compile_key(rules),
        scope=rules.scope,
        credential=rules.credential,
        fingerprint_ignore=tuple(map(str, rules.fingerprint.ignore)),
        native=native,
        tag=tag_place(rules.tag) if rules.tag is not None else None,
        outcomes=tuple(compiled for rule in rules.outcomes for compiled in _outcomes(rule)),
        body_type=rules.body_type,
        wait_seconds=rules.wait.seconds,
        timeout=compile_timeout(rules.timeout),
        quiet_seconds=quiet(rules).seconds,
        lookup=compile_lookup(lookup, rules.body_type) if lookup is not None else None,
        can_look_up=lookup is not None,
        settle_by=settle_by(rules),
        resend_seconds=rules.settle.resend_for.seconds,
        store=compile_store(rules.store),
        answers=compile_answers(rules.answers),
        later=_later(rules),
    )


def unmatched_operation(rules: Provider, defaults: MappingNode) -> policy.Operation:
    """The rule `unmatched: protect`: a caller's Idempotency-Key is honoured, sent on as it is, and never re-sent."""
    settle = _default_settle(defaults)
    return policy.Operation(
        id=policy.UNMATCHED,
        name=policy.UNMATCHED,
        mode=Mode(rules.mode),
        key=KeyRule((_alternative((IDEMPOTENCY_KEY,), None),), required=False, window_us=None),
        scope=rules.scope,
        credential=rules.credential,
        wait_seconds=rules.wait.seconds,
        timeout=compile_timeout(rules.timeout),
        quiet_seconds=settle.request_life.seconds,
        store=compile_store(rules.store),
        answers=compile_answers(rules.answers),
        path_in_identity=True,
        key_passes=True,
    )


def compile_key(rules: Operation) -> KeyRule:
    """Where the key comes from, by default the caller's header and then the native place."""
    source = rules.key.source or default_source(rules.native)
    return KeyRule(
        tuple(_alternative(parts, rules.native) for parts in source),
        required=rules.key.required,
        window_us=rules.key.window.us if rules.key.window is not None else None,
    )


def compile_native(native: Native | None) -> policy.Native | None:
    """The native key. One that a hook would place is left out until hooks exist: nothing would carry it."""
    if native is None or native.hook is not None:
        return None
    return policy.Native(
        place=place_of(native),
        natural=native.natural,
        format=native.format,
        max_length=native.max_length,
        retention_us=native.retention.us,
        locks=native.locks,
        failures=native.failures,
        in_progress=_matchers(native.in_progress),
        mismatch=_matchers(native.mismatch),
        behind_key=_matchers(native.behind_key),
        ignored_when=native.ignored_when,
    )


def settle_by(rules: Operation) -> tuple[str, ...]:
    """The ways to settle, in order: as written, else what the rule has."""
    if rules.settle.by is not None:
        return tuple(rules.settle.by)
    has_native = rules.native is not None and rules.native.hook is None
    return (*(("resend",) if has_native else ()), *(("lookup",) if rules.settle.lookup is not None else ()))


def compile_timeout(rules: Timeout) -> policy.Timeouts:
    """Timeouts in seconds. A `connect` left to default never outlasts a shorter `total`."""
    total = rules.total.seconds
    return policy.Timeouts(connect_seconds=min(rules.connect.seconds, total), total_seconds=total)


def compile_store(rules: Store) -> policy.Store:
    """What is kept. What is to be redacted must not be kept whole: until redaction is built, no body is."""
    answer = "status" if rules.redact and rules.answer == "full" else rules.answer
    return policy.Store(request=rules.request, answer=answer, redact=tuple(map(str, rules.redact)))


def compile_answers(rules: Answers) -> policy.Answers:
    """What the provider's SDK wants."""
    return policy.Answers(
        members={str(name): _plain(value) for name, value in rules.members.items()},
        headers={str(name): str(value) for name, value in rules.headers.items()},
        content_type=str(rules.content_type) if rules.content_type is not None else None,
    )


def _alternative(parts: Sequence[Expression], native: Native | None) -> KeyAlternative:
    given = is_native_place(parts, native)
    return KeyAlternative(
        tuple(parts),
        given=given,
        header=is_single_header(parts[0]) if given else None,
        text=" + ".join(part.text for part in parts),
    )


def _outcomes(rule: Outcome) -> list[policy.OutcomeRule]:
    """A rule for answers and, where `none` is among the statuses, one for no answer."""
    compiled = []
    answered = tuple(status for status in rule.status if status != "none")
    if answered or not rule.status:
        compiled.append(policy.OutcomeRule(policy.Matcher(_statuses(answered), rule.when), rule.outcome))
    if "none" in rule.status:
        compiled.append(policy.OutcomeRule(policy.Matcher(policy.StatusMatch(none=True)), rule.outcome))
    return compiled


def _matchers(matchers: Sequence[Matcher]) -> tuple[policy.Matcher, ...]:
    return tuple(policy.Matcher(_statuses(matcher.status), matcher.when) for matcher in matchers)


def _statuses(statuses: Sequence[int | str]) -> policy.StatusMatch:
    return policy.StatusMatch(
        codes=frozenset(status for status in statuses if isinstance(status, int)),
        classes=frozenset(int(status[0]) for status in statuses if isinstance(status, str)),
    )


def _default_settle(defaults: MappingNode) -> Settle:
    node = defaults.get("settle")
    return (read(Settle, node, Problems()).rules if isinstance(node, MappingNode) else None) or Settle()


def _plain(value: object) -> Any:
    match value:
        case str():
            return str(value)
        case dict():
            return {str(name): _plain(below) for name, below in value.items()}
        case list():
            return [_plain(below) for below in value]
        case _:
            return value


def _later(rules: Operation) -> Mapping[str, Any]:
    settle = rules.settle
    fields = {
        "suspect": rules.suspect,
        "deliver_within": rules.deliver_within,
        "facts": rules.facts,
        "resend_for": settle.resend_for,
        "request_life": settle.request_life,
        "unresolved": settle.unresolved,
        "hook": rules.native.hook if rules.native else None,
    }
    return {name: value for name, value in fields.items() if value}
