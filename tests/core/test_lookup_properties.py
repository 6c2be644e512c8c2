"""Whatever comes back to a look-up: it is judged, and a no never stands on a doubt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lookup import Absent, Found, FoundRejected, FoundSeveral, Lookup, NotYet, Verdict
from proxy.core.lookup_answer import Circumstances, judge
from proxy.core.model import Answer
from tests.core.lookups import ALL_IS_WELL, BY_ORDER, NO_MATCH, STATES, TAG, lookup, page, reply, sought
from tests.core.messages import answer
from tests.core.test_json_text import VALUES

ITEMS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["a", "b", 1, "1", None, ""]) | VALUES,
            "meta": st.fixed_dictionaries({"tag": st.sampled_from([TAG, "x", None])}) | VALUES,
            "order": st.sampled_from(["o-1", "o-2", None, 1]),
            "amount": st.sampled_from([100, "100", 100.0, 99, None]),
            "at": st.sampled_from([1_700_000_000, 1_699_999_999, 1_600_000_000, "x", None, "2023-11-14T22:13:20Z"]),
            "state": st.sampled_from(["done", "queued", "failed", None, 1]),
        },
    ),
)
BODIES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {}, optional={"data": st.lists(ITEMS, max_size=4) | VALUES, "more": st.booleans() | VALUES, "code": VALUES}
    ),
)
CIRCUMSTANCES = st.builds(
    Circumstances, is_quiet=st.booleans(), is_within_horizon=st.booleans(), is_tagged=st.booleans()
)
WRITTEN = st.one_of(st.binary(max_size=64), BODIES.map(lambda value: json.dumps(value).encode()))
TYPES = st.sampled_from([b"application/json", b"text/html", b"text/plain", b"application/xml", b"image/png", b""])
CODINGS = st.sampled_from([(), (), (), ((b"Content-Encoding", b"gzip"),), ((b"Content-Encoding", b"br"),)])
CAME = st.builds(
    lambda status, kind, coding, content, complete: Answer(
        status, ((b"Content-Type", kind), *coding), content, complete
    ),
    st.sampled_from([200, 200, 200, 201, 204, 206, 302, 400, 404, 404, 429, 500, 503]),
    TYPES,
    CODINGS,
    WRITTEN,
    st.sampled_from([True, True, True, False]),
)
SOME_RULES = st.sampled_from(
    [
        lookup(),
        lookup(**STATES, since="at", answer=reply(headers={"x-id": "id"})),
        lookup(where=BY_ORDER, since="at", **NO_MATCH),
        lookup(where={"order": "request.body.order", "amount": "request.body.amount"}, since="at", **STATES),
        lookup(where={}, items="[body]", complete=None, absent="status == `404`"),
        lookup(items="body.data || `[]`"),
        lookup(items="body", where={"abs(amount)": "request.body.amount"}, complete="length(body) < `3`"),
        lookup(items="body.data[*].meta", where={"tag": "outgoing_key"}, id="tag"),
    ]
)


def judged(came: Answer) -> Verdict:
    """What *came* says by a rule that compares our tag, where all is well."""
    return judge(lookup(), came, sought(), ALL_IS_WELL)


@given(CAME, SOME_RULES, CIRCUMSTANCES)
def test_whatever_comes_back_is_judged(came: Answer, rule: Lookup, circumstances: Circumstances) -> None:
    assert isinstance(judge(rule, came, sought(), circumstances), Verdict)


@given(CAME, SOME_RULES, CIRCUMSTANCES)
def test_a_no_never_stands_on_a_doubt(came: Answer, rule: Lookup, circumstances: Circumstances) -> None:
    verdict = judge(rule, came, sought(), circumstances)

    if isinstance(verdict, (Absent, FoundRejected)):
        assert circumstances.is_quiet and circumstances.is_within_horizon
        assert circumstances.is_tagged or not rule.relies_on_tag
        assert came.complete
        assert 200 <= came.status < 300 or rule.absent is not None
    if isinstance(verdict, Absent) and rule.complete == lookup().complete and rule.absent is None:
        content = json.loads(came.body)
        assert content.get("more") is False and isinstance(content["data"], list)
        assert not [each for each in content["data"] if isinstance(each, dict) and each.get("meta") == {"tag": TAG}]


@given(st.lists(ITEMS, max_size=4), st.sampled_from(["more", "cut", "status", "type", "coding", "shape", "twice"]))
def test_one_doubt_about_page_shape_or_decoding_and_nothing_is_not_believed(shown: list[Any], doubt: str) -> None:
    came = page(*shown, more=doubt == "more")
    match doubt:
        case "cut":
            came = replace(came, complete=False)
        case "status":
            came = replace(came, status=503)
        case "type":
            came = replace(came, headers=((b"Content-Type", b"application/pdf"),))
        case "coding":
            came = replace(came, headers=((b"Content-Encoding", b"br"),))
        case "shape":
            came = answer(200, json.dumps({"list": shown, "more": False}))
        case "twice":
            came = answer(200, b'{"data": [], ' + came.body[1:])

    assert not isinstance(judged(came), (Absent, NotYet, FoundRejected))


@given(st.lists(ITEMS, max_size=4))
def test_the_order_of_candidates_says_nothing(shown: list[Any]) -> None:
    forward, backward = judged(page(*shown)), judged(page(*reversed(shown)))
    assert type(forward) is type(backward)
    if isinstance(forward, FoundSeveral) and isinstance(backward, FoundSeveral):
        assert set(forward.effect_ids) == set(backward.effect_ids)


@given(st.lists(ITEMS, max_size=4), st.lists(ITEMS, max_size=2))
def test_more_candidates_never_turn_an_effect_into_none(shown: list[Any], further: list[Any]) -> None:
    if isinstance(judged(page(*shown)), (Found, FoundSeveral)):
        assert not isinstance(judged(page(*shown, *further)), (Absent, NotYet))
