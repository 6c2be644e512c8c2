"""One operation: its native key, tag, outcomes and settling, and how they bear on each other."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.config.checks.site import Site
from proxy.config.keys import is_native_place, place_of, tag_place
from proxy.config.models.operation import Native, Operation
from proxy.config.models.settle import Lookup
from proxy.config.models.shared import Matcher
from proxy.config.tree import Path
from proxy.config.units import Duration
from proxy.core.keys import KEY_LENGTH_MAX, OUTGOING_LENGTHS
from proxy.core.policy import Place

FORBIDDEN_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "cookie", "expect", "host", "keep-alive",
        "prefer", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via",
    }
)  # fmt: skip
"""Headers that frame the message or speak to someone else."""

_FRAMING = FORBIDDEN_HEADERS - {"content-type", "cookie", "prefer"}
"""Headers that a look-up leaves to whoever sends it, and an answer to whoever replays it."""

_BODILESS = ("GET ", "HEAD ", "OPTIONS ", "TRACE ")


def check(rules: Operation, site: Site) -> None:
    """All of it but what depends on other operations, callers or the ledger."""
    if rules.native is not None:
        _check_native(rules, rules.native, site)
    _check_tag(rules, site)
    _check_outcomes(rules, site)
    _check_settle(rules, site)


def quiet(rules: Operation) -> Duration:
    """How long after its deadline an attempt may still take effect."""
    lookup = rules.settle.lookup
    return lookup.absent_after if lookup is not None else rules.settle.request_life


def _check_native(rules: Operation, native: Native, site: Site) -> None:
    ways = [way for way in ("header", "body", "query", "hook", "natural") if getattr(native, way)]
    if len(ways) != 1:
        message = f"{' and '.join(ways)} are given together" if ways else "does not say where the key goes"
        site.wrong("native", message=message, fix="give one of header, body, query, hook, or natural: true")
        return
    if native.natural:
        _check_natural(native, site)
        return
    _check_place(rules, place_of(native), site, "native")
    _check_length(native, site)
    for name in ("in_progress", "mismatch", "behind_key"):
        _check_matchers(getattr(native, name), site, "native", name)
    if native.format == "raw":
        for index, alternative in enumerate(rules.key.source):
            if not is_native_place(alternative, native):
                site.wrong(
                    "key",
                    "from",
                    index,
                    message="a computed key can't be sent raw",
                    fix="use native.format: uuid, or take the key from one header",
                )
    margin = (rules.timeout.total.us or 0) + (quiet(rules).us or 0)
    is_known = not (site.is_partial("timeout") or site.is_partial("settle"))
    if is_known and native.retention.us is not None and native.retention.us <= margin:
        site.wrong(
            "native",
            "retention",
            message=f"{native.retention} is over before a re-send is safe: timeout.total and the quiet time are {Duration(margin)}",
            fix="shorten timeout.total, settle.request_life or absent_after",
        )


def _check_natural(native: Native, site: Site) -> None:
    for name in ("max_length", "locks", "in_progress", "mismatch", "behind_key", "ignored_when", "raw_shared"):
        if getattr(native, name):
            site.wrong(
                "native", name, message="means nothing where the call is natural: there is no key", fix="remove it"
            )


def _check_length(native: Native, site: Site) -> None:
    longest = native.max_length
    needed = OUTGOING_LENGTHS.get(native.format)
    if longest is None or needed is None or longest >= needed:
        return
    if native.format == "uuid" and longest >= OUTGOING_LENGTHS["hex32"]:
        fix = f"use format: hex32, which has {OUTGOING_LENGTHS['hex32']} characters"
    else:
        fix = f"format: raw sends the caller's own key, up to {KEY_LENGTH_MAX} characters"
    site.wrong(
        "native",
        "max_length",
        message=f"{longest} is too short for a {native.format} key of {needed} characters",
        fix=fix,
    )


def _check_place(rules: Operation, place: Place | None, site: Site, field: str) -> None:
    if place is None:
        return
    if place.where == "header" and (place.name.lower() in FORBIDDEN_HEADERS or place.name.lower().startswith("dedup-")):
        site.wrong(field, "header", message="can't carry a key: it belongs to HTTP or to this proxy")
    if place.where in ("body", "field"):
        for index, line in enumerate(rules.match):
            if line.startswith(_BODILESS):
                site.wrong(
                    "match",
                    index,
                    message=f"this method has no body for {field}.{place.where}",
                    fix="use a header",
                )


def _check_tag(rules: Operation, site: Site) -> None:
    if rules.tag is None:
        return
    ways = [way for way in ("body", "field", "header") if getattr(rules.tag, way)]
    if len(ways) != 1:
        message = f"{' and '.join(ways)} are given together" if ways else "does not say where it goes"
        site.wrong("tag", message=message, fix="give one of body, field and header")
        return
    place = tag_place(rules.tag)
    _check_place(rules, place, site, "tag")
    native = place_of(rules.native) if rules.native is not None else None
    if native is not None and _is_same(place, native):
        site.wrong(
            "tag", ways[0], message="is the native key's place", fix="remove the tag: the native key is there already"
        )


def _is_same(one: Place, other: Place) -> bool:
    if one.where == other.where == "header":
        return one.name.lower() == other.name.lower()
    bodies = ("body", "field")
    return one.name == other.name and (one.where == other.where or (one.where in bodies and other.where in bodies))


def _check_matchers(matchers: Sequence[Matcher], site: Site, *path: str) -> None:
    for index, matcher in enumerate(matchers):
        where: Path = (*path, index)
        if not matcher.status and matcher.when is None:
            site.wrong(*where, message="matches every answer", fix="give a status, a `when`, or both")
        if "none" in matcher.status:
            site.wrong(*where, message="none is no answer, so there is nothing to recognise", fix="leave it out")


def _check_outcomes(rules: Operation, site: Site) -> None:
    for index, rule in enumerate(rules.outcomes):
        where = ("outcomes", index)
        if not rule.status and rule.when is None:
            site.wrong(*where, message="matches every answer", fix="give a status, a `when`, or both")
        if "none" not in rule.status:
            continue
        if rule.when is not None:
            site.wrong(
                *where, "when", message="is never asked where no answer came", fix="give `none` a line of its own"
            )
        if rule.outcome in ("succeeded", "rejected"):
            site.wrong(
                *where,
                "is",
                message=f"no answer can't say {rule.outcome}",
                fix="leave it ambiguous; settle.unresolved: assume_succeeded takes it for done when nothing can tell",
            )


def _check_settle(rules: Operation, site: Site) -> None:
    settle = rules.settle
    lookup = settle.lookup
    for index, way in enumerate(settle.by or ()):
        where = ("settle", "by", index)
        if way in (settle.by or ())[:index]:
            site.wrong(*where, message=f"{way} is given twice")
        elif way == "resend" and rules.native is None and not site.says("native"):
            site.wrong(
                *where,
                message="a re-send would repeat the call: there is no native key",
                fix="describe `native`, or use lookup",
            )
        elif way == "lookup" and lookup is None and not site.says("settle", "lookup"):
            site.wrong(*where, message="there is no look-up", fix="describe settle.lookup")
    if lookup is None:
        return
    _check_lookup(lookup, site)
    quiet_us = (rules.timeout.total.us or 0) + (lookup.absent_after.us or 0)
    if not site.is_partial("timeout") and lookup.horizon.us is not None and lookup.horizon.us <= quiet_us:
        site.wrong(
            "settle",
            "lookup",
            "horizon",
            message=f"{lookup.horizon} does not reach back past timeout.total and absent_after ({Duration(quiet_us)})",
            fix="no look-up could ever say that nothing happened",
        )


def _check_lookup(lookup: Lookup, site: Site) -> None:
    at = ("settle", "lookup")
    for name in lookup.body:
        if "" in name.split("."):
            site.wrong(*at, "body", name, message=f"{name!r} is not a dotted path of names")
        elif any(other.startswith(f"{name}.") for other in lookup.body):
            site.wrong(
                *at,
                "body",
                name,
                message="is a value, and another name leads through it",
                fix="give the whole of it in one expression",
            )
    for where, headers in ((at, lookup.headers), ((*at, "answer"), lookup.answer.headers if lookup.answer else {})):
        for name in headers:
            if name.lower() in _FRAMING:
                site.wrong(*where, "headers", name, message="can't be set here: it frames the message", fix="remove it")
