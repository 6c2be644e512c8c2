"""What is wrong with an operation, told with line, path and fix. Every row is one complaint or several, word for word."""

from __future__ import annotations

import pytest

HEAD = """\
providers:
  api:
    base_url: https://api.example.com
    operations:
      - name: send
        match: POST /send
"""

# what is wanted: lines of the operation, the first of which is line 7 -> "line: path: message (fix)"
OPERATION: dict[str, tuple[str, list[str]]] = {
    "a native key needs a place": (
        "native: {retention: 24h}",
        ["7: native: does not say where the key goes (give one of header, body, query, hook, or natural: true)"],
    ),
    "a native key has one place": (
        "native: {header: X-Key, body: key, retention: 24h}",
        ["7: native: header and body are given together (give one of header, body, query, hook, or natural: true)"],
    ),
    "a native key needs its retention": (
        "native: {header: X-Key}",
        ["7: native.retention: is required (how long the provider remembers a key, counted from the first send)"],
    ),
    "a natural call has no key to describe": (
        "native: {natural: true, retention: 30s, max_length: 30, locks: true}",
        [
            "7: native.max_length: means nothing where the call is natural: there is no key (remove it)",
            "7: native.locks: means nothing where the call is natural: there is no key (remove it)",
        ],
    ),
    "a uuid needs 36 characters": (
        "native: {header: X-Key, retention: 24h, max_length: 35}",
        [
            "7: native.max_length: 35 is too short for a uuid key of 36 characters (use format: hex32, which has 32 characters)"
        ],
    ),
    "no derived key fits 20 characters": (
        "native: {header: X-Key, retention: 24h, max_length: 20, format: hex32}",
        [
            "7: native.max_length: 20 is too short for a hex32 key of 32 characters (format: raw sends the caller's own key, up to 255 characters)"
        ],
    ),
    "a computed key is never raw": (
        "native: {header: X-Key, retention: 24h, format: raw}\nkey: {from: [body.id]}",
        ["8: key.from[0]: a computed key can't be sent raw (use native.format: uuid, or take the key from one header)"],
    ),
    "a native key is remembered past the quiet time": (
        "native: {header: X-Key, retention: 90s}",
        [
            "7: native.retention: 90s is over before a re-send is safe: timeout.total and the quiet time are 90s (shorten timeout.total, settle.request_life or absent_after)"
        ],
    ),
    "a framing header carries no key": (
        "native: {header: Content-Length, retention: 24h}",
        ["7: native.header: can't carry a key: it belongs to HTTP or to this proxy"],
    ),
    "our own headers carry no key": (
        "native: {header: Dedup-Key, retention: 24h}",
        ["7: native.header: can't carry a key: it belongs to HTTP or to this proxy"],
    ),
    "matchers name something": (
        "native: {header: X-Key, retention: 24h, in_progress: {}, mismatch: [{status: none}]}",
        [
            "7: native.in_progress: matches every answer (give a status, a `when`, or both)",
            "7: native.mismatch[0]: none is no answer, so there is nothing to recognise (leave it out)",
        ],
    ),
    "a header name has no spaces": (
        "native: {header: 'X Key', retention: 24h}",
        ["7: native.header: 'X Key' is not a header name"],
    ),
    "a body place is a path of names": (
        "native: {body: 'a[0].b', retention: 24h}",
        ["7: native.body: 'a[0].b' is not a dotted path of names (list items and quoted names can't be addressed)"],
    ),
    "a tag has one place": (
        "tag: {body: a, header: B}",
        ["7: tag: body and header are given together (give one of body, field and header)"],
    ),
    "a tag needs a place": ("tag: {}", ["7: tag: does not say where it goes (give one of body, field and header)"]),
    "a tag is not the native place": (
        "native: {body: a.key, retention: 24h}\ntag: {body: a.key}",
        ["8: tag.body: is the native key's place (remove the tag: the native key is there already)"],
    ),
    "header names are compared without case": (
        "native: {header: X-Key, retention: 24h}\ntag: {header: x-key}",
        ["8: tag.header: is the native key's place (remove the tag: the native key is there already)"],
    ),
    "an outcome names something": (
        "outcomes: [{is: succeeded}]",
        ["7: outcomes[0]: matches every answer (give a status, a `when`, or both)"],
    ),
    "no answer is no success": (
        "outcomes: [{status: none, is: succeeded}]",
        [
            "7: outcomes[0].is: no answer can't say succeeded (leave it ambiguous; settle.unresolved: assume_succeeded takes it for done when nothing can tell)"
        ],
    ),
    "no answer has nothing to ask": (
        "outcomes: [{status: [none, 500], when: attempt == `1`, is: ambiguous}]",
        ["7: outcomes[0].when: is never asked where no answer came (give `none` a line of its own)"],
    ),
    "an outcome is spelled right": (
        "outcomes: [{status: 6xx, is: done}]",
        [
            "7: outcomes[0].status: '6xx' is not a status (write a number, a class such as 4xx, or none for no answer)",
            "7: outcomes[0].is: must be succeeded, rejected, not_executed or ambiguous, not 'done'",
        ],
    ),
    "a re-send needs a native key": (
        "settle: {by: resend}",
        ["7: settle.by: a re-send would repeat the call: there is no native key (describe `native`, or use lookup)"],
    ),
    "a look-up must be described, once": (
        "settle: {by: [lookup, lookup]}",
        ["7: settle.by[0]: there is no look-up (describe settle.lookup)", "7: settle.by[1]: lookup is given twice"],
    ),
    "a look-up needs absent_after and horizon": (
        "settle: {lookup: {request: GET /m, items: body.m, id: id}}",
        [
            "7: settle.lookup.absent_after: is required (how long after the deadline none found begins to count: the longest life of a request that we gave up on, plus the lag of the provider's index)",
            "7: settle.lookup.horizon: is required (how far back this search reaches)",
        ],
    ),
    "a look-up reaches past the quiet time": (
        "settle: {lookup: {request: GET /m, items: body.m, id: id, absent_after: 60s, horizon: 1m}}",
        [
            "7: settle.lookup.horizon: 1m does not reach back past timeout.total and absent_after (90s) (no look-up could ever say that nothing happened)"
        ],
    ),
    "a look-up's query is written apart": (
        "settle: {lookup: {request: 'GET /m?x=1', items: body.m, id: id, absent_after: 60s, horizon: 30d, rate: 6}}",
        [
            "7: settle.lookup.request: 'GET /m?x=1' holds a query (put it under `query`, where values are encoded)",
            "7: settle.lookup.rate: must be text, not 6 (put it in quotes)",
        ],
    ),
    "expressions in a look-up's path are checked": (
        "settle: {lookup: {request: 'GET /m/{bodyy.id}', items: item.m, id: id, absent_after: 60s, horizon: 30d}}",
        [
            "7: settle.lookup.request: 'bodyy.id': there is no 'bodyy' here (did you mean body?)",
            "7: settle.lookup.items: 'item.m': there is no 'item' here (names here: attempt body caller doubt facts fingerprint first_sent_at graphql headers host key last_sent_at method outgoing_key params path query request response status)",
        ],
    ),
    "a timeout is longer than nothing": ("timeout: {total: 0s}", ["7: timeout.total: must be longer than 0s"]),
    "a window ends": ("key: {window: forever}", ["7: key.window: must end some time (write a duration such as 90d)"]),
    "a duration has a unit": ("wait: 10", ["7: wait: 10 is not a duration (a duration needs a unit: 10s, say)"]),
    "true is a literal, and header is headers": (
        "key: {from: [body.id == true, header.x]}",
        [
            "7: key.from[0]: 'body.id == true': true without backticks is a field of that name; write `true`",
            "7: key.from[1]: 'header.x': there is no 'header' here (did you mean headers?)",
        ],
    ),
    "not binds tight": (
        "when: '!body.a.b'",
        ["7: when: '!body.a.b': ! binds tighter than the dot: !a.b is (!a).b; write !(a.b)"],
    ),
    "doubt is not known when the key is read": (
        "key: {from: doubt}",
        ["7: key.from: 'doubt': 'doubt' is not known before the call is claimed"],
    ),
    "a key is not the whole document": (
        "key: {from: '@'}",
        ["7: key.from: '@' takes the whole document (name what it reads)"],
    ),
    "a key has a source": (
        "key: {from: []}",
        ["7: key.from: must not be empty (alternatives, the first that yields wins; a list needs every part)"],
    ),
    "a source has a part": (
        "key: {from: [body.id, []]}",
        ["7: key.from[1]: must not be empty"],
    ),
    "a key is no number": (
        "key: {from: 3}",
        ["7: key.from: must be an expression, not 3 (a literal is written '`3`')"],
    ),
    "a comma inside braces cuts an expression": (
        "outcomes: [{status: 409, when: contains(body.x, 'a'), is: succeeded}]",
        [
            "7: not YAML: expected ',' or '}', but got '<scalar>' (an expression inside [] or {} needs quotes: put the whole expression in single quotes (double any single quote inside))"
        ],
    ),
    "a double quote inside braces needs quotes around": (
        "outcomes: [{status: 409, when: headers.\"x-a\" == 'b', is: succeeded}]",
        [
            "7: outcomes[0].when: 'headers.\"x-a\" == 'b'' holds a double quote and stands unquoted inside [] or {} (put the expression in single quotes)"
        ],
    ),
    "a # cuts an expression": (
        "when: body.a == 'x # y'",
        ['7: when: a # cut this expression short: YAML read only "body.a == \'x"; put the whole of it in quotes'],
    ),
    "double quotes are names": (
        'when: body.a == "x"',
        ["7: when: 'body.a == \"x\"': \"x\" in double quotes is a field of that name; write 'x' for the text"],
    ),
    "a text literal has single quotes": (
        "when: body.a == `x`",
        ["7: when: 'body.a == `x`' is no expression: `x` is not JSON; a string is written 'x' at character 11"],
    ),
    "header names are lower-case": (
        'credential: headers."X-Account"',
        ['7: credential: \'headers."X-Account"\': header names are lower-case here; write headers."x-account"'],
    ),
    "a function exists": (
        "when: exists(body.a)",
        ["7: when: 'exists(body.a)' is no expression: there is no function exists()"],
    ),
    "an ignored path is below body or params": (
        "fingerprint: {ignore: [headers.x, 'body.a[0]', body]}",
        [
            "7: fingerprint.ignore[0]: 'headers.x' is not a path (write body.NAME or params.NAME)",
            "7: fingerprint.ignore[1]: 'body.a[0]' is not a path (write body.NAME or params.NAME)",
            "7: fingerprint.ignore[2]: 'body' is not a path (write body.NAME or params.NAME)",
        ],
    ),
    "a mode is known": (
        "mode: enforced",
        ["7: mode: must be enforce, observe or bypass, not 'enforced' (did you mean enforce?)"],
    ),
    "yes is not true": ("key: {required: yes}", ["7: key.required: must be true or false, not 'yes' (write true)"]),
    "facts speak of request. and response.": (
        "facts: {order: body.id, amount: {from: request.body.a, units: minor}}",
        [
            "7: facts.order: 'body.id': there is no 'body' here (write request.body for the request's)",
            "7: facts.amount.units: is not known here (did you mean unit?)",
        ],
    ),
    "suspect needs its window": (
        "suspect: {}",
        ["7: suspect.window: is required (how long ago counts as a moment ago)"],
    ),
    "unmatched is taken": (
        "id: unmatched",
        ["7: id: 'unmatched' stands for what no operation matches (choose another)"],
    ),
    "an id is one word": (
        "id: 'a b'",
        [
            "7: id: 'a b' is not a name (up to 64 letters, digits, dots, dashes and underscores, a letter or digit first)"
        ],
    ),
    "answers are checked deeply": (
        "answers: {members: {detail: x, message: '{detial}', e: {m: ['{nope}']}}, headers: {Content-Length: '1', x-a: '{statuss}'}}",
        [
            "7: answers.members.detail: is a member of every answer already (choose another name)",
            "7: answers.members.message: there is no {detial} (did you mean detail?)",
            "7: answers.members.e.m[0]: there is no {nope} (known: detail entry entry_status executed instance key operation provider reason retryable sent status title type)",
            "7: answers.headers.Content-Length: belongs to HTTP or to this proxy",
            "7: answers.headers.x-a: there is no {statuss} (did you mean status?)",
        ],
    ),
}
MATCH: dict[str, tuple[str, list[str]]] = {
    "a method is needed": ("/send", ["match: '/send' is not METHOD PATH (write POST /send)"]),
    "a path is needed": ("POST", ["match: 'POST' is not METHOD PATH"]),
    "methods are upper case": ("post /send", ["match: 'post' is not a method (write POST)"]),
    "a path begins with a slash": ("POST send", ["match: 'POST send': a path begins with / (write POST /send)"]),
    "a path is relative": (
        "POST https://x.example/send",
        [
            "match: 'POST https://x.example/send': a path begins with / (leave out scheme and host: paths are relative to base_url's)"
        ],
    ),
    "** is last": (
        "POST /a/**/b",
        ["match: 'POST /a/**/b': ** stands alone as the last segment (use {name} for one segment)"],
    ),
    "there is no *": (
        "POST /a*b",
        ["match: 'POST /a*b': ** stands alone as the last segment (use {name} for one segment)"],
    ),
    "a {name} is a whole segment": (
        "POST /a/{b}c",
        ["match: 'POST /a/{b}c': '{b}c' is neither literal nor {name} (a {name} is a whole segment; no query)"],
    ),
    "a match has no query": (
        "POST /a?x=1",
        ["match: 'POST /a?x=1': 'a?x=1' is neither literal nor {name} (a {name} is a whole segment; no query)"],
    ),
    "an empty match": (
        "[]",
        [
            "match: must not be empty (METHOD PATH, one or a list; {name} is one segment, ** as the last segment the rest)"
        ],
    ),
    "a number": ("3", ["match: must be text, not 3 (put it in quotes)"]),
    "a method is named": ("'* /send'", ["match: '*' is not a method (name the method; one line for each)"]),
}


def told(report):
    """Problems without the file and the operation's path."""
    lines = [str(problem).removeprefix("config.yaml:") for problem in report.problems]
    return [line.replace("providers.api.operations[0].", "", 1) for line in lines]


@pytest.mark.parametrize("what", OPERATION)
def test_an_operation_is_refused_with_a_reason(what, checked):
    lines, expected = OPERATION[what]
    text = HEAD + "".join(f"        {line}\n" for line in lines.split("\n"))
    assert told(checked(text)) == expected


@pytest.mark.parametrize("what", MATCH)
def test_a_match_is_refused_with_a_reason(what, checked):
    match, expected = MATCH[what]
    assert told(checked(HEAD.replace("POST /send", match))) == [f"6: {message}" for message in expected]


FINE = {
    "nothing but a match": "",
    "a header in a flow list needs no quotes": 'scope: [headers."x-account"]',
    "a comment behind an expression is a comment": "when: body.a == 'x'  # of the first kind",
    "a native key as long as it must be": "native: {header: X-Key, retention: 91s, max_length: 36}",
    "hex32 fits in 32": "native: {header: X-Key, retention: 24h, max_length: 32, format: hex32}",
    "a raw key from any one header": "native: {header: X-Key, retention: 24h, format: raw}",
    "a raw key from the native place": "native: {query: id, retention: 24h, format: raw}\nkey: {from: params.id}",
    "credential null": "credential: null",
    "a re-send by nature": "native: {natural: true, retention: 5s}\nsettle: {by: resend}",
    "fingerprint as a key": "key: {from: fingerprint, window: 10m}",
    "an x- key anywhere": "x-note: {any: [thing]}\nkey: {x-note: 1}",
    "no answer as ambiguous": "outcomes: [{status: [none, 5xx], is: ambiguous}]",
}


@pytest.mark.parametrize("what", FINE)
def test_an_operation_is_accepted(what, checked):
    text = HEAD + "".join(f"        {line}\n" for line in FINE[what].split("\n"))
    assert told(checked(text)) == []


def test_everything_wrong_with_one_operation_is_told_at_once(checked):
    """Values that are no values, an unknown key, and what only makes no sense together."""
    text = (
        HEAD
        + """\
        timeout: {connect: 5, total: 30s}
        nativ: {}
        native: {header: X-Key, body: key, retention: 10s, formt: raw}
        outcomes:
          - {is: rejected}
        settle: {by: lookup}
"""
    )
    assert told(checked(text)) == [
        "7: timeout.connect: 5 is not a duration (a duration needs a unit: 5s, say)",
        "8: nativ: is not known here (did you mean native?)",
        "9: native.formt: is not known here (did you mean format?)",
        "11: outcomes[0]: matches every answer (give a status, a `when`, or both)",
        "12: settle.by: there is no look-up (describe settle.lookup)",
    ]
