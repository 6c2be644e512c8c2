"""A look-up as written, and what is wrong with one. The rules in docs/lookup.md are valid and judge as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from proxy.config import Report
from proxy.core.lookup import Absent, Condition, CouldNotAsk, Found, FoundPending, FoundRejected, LookupAnswer, Rate
from proxy.core.lookup_answer import judge
from proxy.core.lookup_request import LookupRequest, build
from tests.core.lookups import ALL_IS_WELL, TAG, sought
from tests.core.messages import answer

HEAD = """\
providers:
  api:
    base_url: https://api.example.com
    operations:
      - name: send
        match: POST /send
"""
LEAST = "request: GET /m, items: body.m, id: id, absent_after: 60s, horizon: 30d"
PAGE = Path(__file__).parents[2] / "docs/lookup.md"


def operation(checked, lines):
    report: Report = checked(HEAD + "".join(f"        {line}\n" for line in lines.split("\n")))
    assert report.problems == ()
    return report.policy.providers["api"].operations[0]


def problems(checked, lines):
    report: Report = checked(HEAD + "".join(f"        {line}\n" for line in lines.split("\n")))
    return [
        str(problem).removeprefix("config.yaml:").replace("providers.api.operations[0].settle.lookup.", "")
        for problem in report.problems
    ]


def texts(pairs):
    return [(name, expression.text) for name, expression in pairs]


def test_the_least_look_up(checked):
    found = operation(checked, f"settle: {{lookup: {{{LEAST}}}}}").lookup
    assert (found.method, found.path, found.items.text, found.id.text) == ("GET", ("/m",), "body.m", "id")
    assert (found.query, found.headers, found.body, found.where) == ((), (), (), ())
    assert (found.since, found.complete, found.absent, found.pending, found.rejected) == (None,) * 5
    assert (found.rate, found.answer, found.body_type) == (None, None, "json")
    assert (found.absent_after_us, found.horizon_us) == (60_000_000, 30 * 86_400_000_000)


def test_a_look_up_in_full(checked):
    found = operation(
        checked,
        """\
body_type: xml
settle:
  lookup:
    request: POST /m/{caller}/{request.body.id}
    query: {q: outgoing_key}
    headers: {x-a: "'1'"}
    body: {filter.since: "time(first_sent_at, '-5m', 'unix')", size: '`9`'}
    items: body.m
    where: {custom.tag: outgoing_key, order: facts.order}
    id: id
    since: at
    complete: body.first < first_sent_at
    absent: status == `404`
    absent_after: 2m
    horizon: forever
    pending: s == 'q'
    rejected: s == 'f'
    rate: 6/m
    answer: {status: 202, body: item, headers: {x-id: id}}""",
    ).lookup
    assert found.method == "POST"
    assert [part if isinstance(part, str) else part.text for part in found.path] == [
        "/m/", "caller", "/", "request.body.id",
    ]  # fmt: skip
    assert texts(found.query) + texts(found.headers) == [("q", "outgoing_key"), ("x-a", "'1'")]
    assert texts(found.body) == [(("filter", "since"), "time(first_sent_at, '-5m', 'unix')"), (("size",), "`9`")]
    assert [(each.theirs.text, each.ours.text) for each in found.where] == [
        ("custom.tag", "outgoing_key"),
        ("order", "facts.order"),
    ]
    assert all(isinstance(each, Condition) for each in found.where)
    assert [each.text for each in (found.since, found.complete, found.absent, found.pending, found.rejected)] == [
        "at", "body.first < first_sent_at", "status == `404`", "s == 'q'", "s == 'f'",
    ]  # fmt: skip
    assert (found.absent_after_us, found.horizon_us, found.rate) == (120_000_000, None, Rate(6, 60))
    assert isinstance(found.answer, LookupAnswer)
    assert (found.answer.status, found.answer.body.text, texts(found.answer.headers)) == (202, "item", [("x-id", "id")])
    assert found.body_type == "xml"


@pytest.mark.parametrize(("text", "seconds"), [("2/s", 1), ("6/m", 60), ("100/h", 3600), ("1000/d", 86_400)])
def test_a_rate_is_so_many_in_a_time(text, seconds, checked):
    rate = operation(checked, f"settle: {{lookup: {{{LEAST}, rate: {text}}}}}").lookup.rate
    assert rate == Rate(int(text.partition("/")[0]), seconds)


PATHS = {
    "GET /": ["/"],
    "GET   /m": ["/m"],
    "GET /a%20b/c:d@e": ["/a%20b/c:d@e"],
    "'GET /a b/é#x'": ["/a%20b/%C3%A9%23x"],
    "'GET /m/{key}.json'": ["/m/", "key", ".json"],
    "'GET /{caller}{key}'": ["/", "caller", "key"],
    "'GET /m/{\"outgoing_key\"}'": ["/m/", '"outgoing_key"'],
}


@pytest.mark.parametrize("line", PATHS)
def test_a_path_is_text_ready_for_the_wire_and_expressions(line, checked):
    found = operation(
        checked, f"settle: {{lookup: {{request: {line}, items: body.m, id: id, absent_after: 60s, horizon: 1h}}}}"
    ).lookup
    assert [part if isinstance(part, str) else part.text for part in found.path] == PATHS[line]


@pytest.mark.parametrize(
    ("lines", "has_lookup"),
    [
        ("wait: 1s", False),
        (f"settle: {{lookup: {{{LEAST}}}}}", True),
        (f"settle: {{by: lookup, lookup: {{{LEAST}}}}}", True),
        (f"native: {{header: X, retention: 1h}}\nsettle: {{by: resend, lookup: {{{LEAST}}}}}", False),
    ],
)
def test_there_is_a_look_up_exactly_where_the_rule_can_look_up(lines, has_lookup, checked):
    found = operation(checked, lines)
    assert (found.lookup is not None, found.can_look_up) == (has_lookup, has_lookup)


WRONG = {
    "a name of the body is a value and leads on": (
        f"settle: {{lookup: {{{LEAST}, body: {{a.b: key, a.b.c: key, d: key, dd: key}}}}}}",
        ["7: body.a.b: is a value, and another name leads through it (give the whole of it in one expression)"],
    ),
    "a name of the body is empty": (
        f"settle: {{lookup: {{{LEAST}, body: {{a..b: key}}}}}}",
        ["7: body.a..b: 'a..b' is not a dotted path of names"],
    ),
    "headers that frame the message": (
        f"settle: {{lookup: {{{LEAST}, headers: {{Host: key, content-type: key}}, answer: {{headers: {{Content-Length: id}}}}}}}}",
        [
            "7: headers.Host: can't be set here: it frames the message (remove it)",
            "7: answer.headers.Content-Length: can't be set here: it frames the message (remove it)",
        ],
    ),
    "an answer has no item before it is found": (
        f"settle: {{lookup: {{{LEAST}, query: {{a: item.id}}}}}}",
        [
            "7: query.a: 'item.id': there is no 'item' here (names here: body caller facts fingerprint first_sent_at graphql headers host key last_sent_at method outgoing_key params path query request response)"
        ],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_look_up_is_refused_with_a_reason(what, checked):
    lines, expected = WRONG[what]
    assert problems(checked, lines) == expected


# -- the page ---------------------------------------------------------------------------------------------------------

EXAMPLES = [
    block
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    if "providers:" in block
]


def documented(checked, name):
    (text,) = (block for block in EXAMPLES if block.startswith(f"providers:\n  {name}:"))
    report: Report = checked(text)
    assert report.problems == ()
    found = [each.lookup for each in report.policy.providers[name].operations if each.lookup is not None]
    assert len(found) == 1
    return found[0]


def test_the_page_has_its_examples():
    assert len(EXAMPLES) == 4


STRIPE = {"id": "pi_1", "created": 1_700_000_001, "metadata": {"dedup_key": TAG}, "status": "requires_payment_method"}
MAILGUN = {
    "timestamp": 1_700_000_001.104692,
    "event": "accepted",
    "message": {"headers": {"message-id": "1.2@mg.example.com"}},
    "user-variables": {"dedup_key": TAG},
}
SHIPPO = {
    "object_id": "t-1",
    "object_created": "2023-11-14T22:13:21.881Z",
    "status": "SUCCESS",
    "rate": "r-1",
    "messages": [],
}
ERROR = {**SHIPPO, "status": "ERROR", "messages": [{"code": "invalid_address"}]}
TIMED_OUT = {**ERROR, "messages": [{"code": "carrier_timeout"}]}

PAGES = {
    # provider, what it answers, what that means
    "a message is there": (
        "mailer",
        {"messages": [{"id": "m-1", "custom_args": {"dedup_key": TAG}}], "next": None},
        Found,
    ),
    "no message is there": ("mailer", {"messages": [], "next": None}, Absent),
    "there are more": ("mailer", {"messages": [], "next": "p2"}, CouldNotAsk),
    "a payment is there": ("stripe", {"data": [STRIPE], "has_more": False}, Found),
    "no payment is there": ("stripe", {"data": [], "has_more": False}, Absent),
    "an error of Stripe": ("stripe", {"error": {"type": "api_error"}}, CouldNotAsk),
    "a message to two": ("mailgun", {"items": [MAILGUN, MAILGUN], "paging": {"next": "x"}}, Found),
    "no message to anyone": ("mailgun", {"items": [], "paging": {"next": "x"}}, Absent),
    "a full page of others": ("mailgun", {"items": [{"user-variables": {}}] * 300}, CouldNotAsk),
    "a label": ("shippo", {"next": None, "results": [SHIPPO]}, Found),
    "a label, its rate expanded": (
        "shippo",
        {"next": None, "results": [{**SHIPPO, "rate": {"object_id": "r-1"}}]},
        Found,
    ),
    "a label to come": ("shippo", {"next": None, "results": [{**SHIPPO, "status": "QUEUED"}]}, FoundPending),
    "no label": ("shippo", {"next": None, "results": []}, Absent),
    "another's label": ("shippo", {"next": None, "results": [{**SHIPPO, "rate": "r-2"}]}, Absent),
    "a label refused": ("shippo", {"next": None, "results": [ERROR]}, FoundRejected),
    "a label that the carrier may have": ("shippo", {"next": None, "results": [TIMED_OUT]}, Found),
    "no word on further pages": ("shippo", {"results": []}, CouldNotAsk),
}


@pytest.mark.parametrize("what", PAGES)
def test_the_rules_on_the_page_judge_as_it_says(what, checked):
    name, shown, expected = PAGES[what]
    call = sought(request=None, facts={"rate": "r-1"})
    assert type(judge(documented(checked, name), answer(200, json.dumps(shown)), call, ALL_IS_WELL)) is expected


TARGETS = {
    "mailer": f"/messages?q=dedup_key%3A{TAG}",
    "stripe": f"/v1/payment_intents/search?query=metadata%5B%22dedup_key%22%5D%3A%22{TAG}%22&limit=100",
    "mailgun": "/v3/mg.example.com/events?event=accepted&begin=1699999400&end=1700003600&limit=300",
    "shippo": "/transactions?rate=r-1&results=100",
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_rules_on_the_page_ask_without_the_request(name, checked):
    asked = build(documented(checked, name), sought(request=None, facts={"rate": "r-1"}))
    assert isinstance(asked, LookupRequest)
    assert asked.target == TARGETS[name]


def test_a_message_found_is_answered_as_mailgun_does(checked):
    verdict = judge(
        documented(checked, "mailgun"),
        answer(200, json.dumps({"items": [MAILGUN]})),
        sought(request=None),
        ALL_IS_WELL,
    )
    assert isinstance(verdict, Found)
    assert (verdict.answer.status, json.loads(verdict.answer.body)) == (
        200,
        {"id": "<1.2@mg.example.com>", "message": "Queued. Thank you."},
    )
