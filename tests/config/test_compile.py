"""What a configuration comes to: every default said, nothing left to parse."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from proxy.core.keys import KeyAlternative, KeyRule
from proxy.core.model import Mode
from proxy.core.policy import Answers, ListenerTls, Place, StatusMatch, Store, Timeouts
from proxy.core.ports import Route

HEAD = """\
providers:
  api:
    base_url: %s
    operations:
      - name: send
        match: POST /send
"""

DAY_US = 86_400_000_000


def provider(checked, lines="", *, base_url="https://api.example.com", above=""):
    """The compiled provider of a file with these lines in its operation."""
    text = above + HEAD % base_url + "".join(f"        {line}\n" for line in lines.split("\n") if line)
    report = checked(text)
    assert report.problems == ()
    return report.policy.providers["api"]


def send(checked, lines="", **options):
    return provider(checked, lines, **options).operations[0]


def sources(rule: KeyRule):
    return [(each.text, each.given, each.header) for each in rule.alternatives]


def test_ten_lines_protect_an_api(checked):
    operation = send(checked)
    assert sources(operation.key) == [('headers."idempotency-key"', True, "idempotency-key")]
    assert (operation.id, operation.name, operation.mode) == ("send", "send", Mode.ENFORCE)
    assert (operation.key.required, operation.key.window_us) == (True, None)
    assert operation.credential.text == "headers.authorization"
    assert operation.timeout == Timeouts(5.0, 30.0)
    assert (operation.wait_seconds, operation.quiet_seconds, operation.body_type) == (10.0, 60.0, "json")
    assert (operation.native, operation.tag, operation.settle_by, operation.can_look_up) == (None, None, (), False)
    assert operation.store == Store("until_final", "full", ())
    assert operation.answers == Answers()


def test_the_defaults_of_a_whole_file(checked):
    policy = checked("providers: {stripe: {preset: stripe}}\n").policy
    assert (policy.server.listen, policy.server.admin_listen) == (("127.0.0.1", 8080), ("127.0.0.1", 8081))
    assert (policy.server.workers, policy.server.max_request_body, policy.server.drain_seconds) == (
        1,
        10 * 1024**2,
        30.0,
    )
    assert policy.ledger.url == "sqlite:///dedup.db"
    assert (policy.ledger.retention_entry_us, policy.ledger.retention_answer_us) == (90 * DAY_US, 90 * DAY_US)
    assert policy.ledger.max_stored_answer == 1024**2
    assert (policy.callers, policy.warnings) == ((), ())


def test_a_policy_is_frozen(checked):
    policy = checked("providers: {stripe: {preset: stripe}}\n").policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.providers["stripe"].operations[0].key.required = False


KEYS = {
    # native, key -> sources (text, is it given, header)
    "the caller's header, then the native header": (
        "native: {header: PayPal-Request-Id, retention: 24h}",
        [
            ('headers."idempotency-key"', True, "idempotency-key"),
            ('headers."paypal-request-id"', True, "paypal-request-id"),
        ],
    ),
    "one header if they are the same": (
        "native: {header: Idempotency-Key, retention: 24h}",
        [('headers."idempotency-key"', True, "idempotency-key")],
    ),
    "the native body field is given": (
        "native: {body: meta.dedup-key, retention: 24h}",
        [('headers."idempotency-key"', True, "idempotency-key"), ('body.meta."dedup-key"', True, None)],
    ),
    "the native query parameter is given": (
        "native: {query: requestId, retention: 24h}",
        [('headers."idempotency-key"', True, "idempotency-key"), ("params.requestId", True, None)],
    ),
    "a natural call has no place": (
        "native: {natural: true, retention: 24h}",
        [('headers."idempotency-key"', True, "idempotency-key")],
    ),
    "another body field is computed": (
        "native: {body: key, retention: 24h}\nkey: {from: [body.key, request.body.key, body.other, 'body.key[0]']}",
        [
            ("body.key", True, None),
            ("request.body.key", True, None),
            ("body.other", False, None),
            ("body.key[0]", False, None),
        ],
    ),
    "any one header is given": (
        "key: {from: [headers.x, 'request.headers.\"x-y\"', 'headers.x || headers.y', host]}",
        [
            ("headers.x", True, "x"),
            ('request.headers."x-y"', True, "x-y"),
            ("headers.x || headers.y", False, None),
            ("host", False, None),
        ],
    ),
    "parts together are computed": (
        "key: {from: [[headers.x, body.id], [headers.y]]}",
        [("headers.x + body.id", False, None), ("headers.y", True, "y")],
    ),
}


@pytest.mark.parametrize("what", KEYS)
def test_where_a_key_comes_from(what, checked):
    lines, expected = KEYS[what]
    assert sources(send(checked, lines).key) == expected


def test_parts_keep_their_order(checked):
    rule = send(checked, "key: {from: [[body.b, body.a]], required: false, window: 2h}").key
    assert isinstance(rule.alternatives[0], KeyAlternative)
    assert [part.text for part in rule.alternatives[0].parts] == ["body.b", "body.a"]
    assert (rule.required, rule.window_us) == (False, 7_200_000_000)


def test_a_native_key(checked):
    native = send(
        checked,
        "native: {header: X-Key, retention: 2d, format: hex32, max_length: 40, locks: true, failures: stored,\n"
        "         in_progress: {status: [409, 4xx]}, mismatch: [{when: body.a == 'b'}], ignored_when: body.test == `true`}",
    ).native
    assert native.place == Place("header", "X-Key")
    assert (native.format, native.max_length, native.retention_us) == ("hex32", 40, 2 * DAY_US)
    assert (native.locks, native.failures, native.natural) == (True, "stored", False)
    assert native.in_progress[0].status == StatusMatch(codes=frozenset({409}), classes=frozenset({4}))
    assert (native.mismatch[0].status, native.mismatch[0].when.text) == (StatusMatch(), "body.a == 'b'")
    assert native.ignored_when.text == "body.test == `true`"


def test_a_native_key_of_a_hook_is_none_as_long_as_there_are_no_hooks(checked):
    operation = send(checked, "native: {hook: place, retention: 1d}")
    assert (operation.native, operation.settle_by) == (None, ())


def test_a_retention_without_end_is_none(checked):
    assert send(checked, "native: {header: X-Key, retention: forever}").native.retention_us is None


TAGS = {
    "{body: a.b}": Place("body", "a.b"),
    "{field: 'v:x'}": Place("field", "v:x"),
    "{header: X-Tag}": Place("header", "X-Tag"),
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag(tag, checked):
    assert send(checked, f"tag: {tag}").tag == TAGS[tag]


def test_outcomes_with_none_speak_of_answers_and_of_none_apart(checked):
    rules = send(
        checked, "outcomes: [{status: [none, 500, 4xx], is: ambiguous}, {status: none, is: not_executed}]"
    ).outcomes
    assert [(rule.match.status, rule.outcome) for rule in rules] == [
        (StatusMatch(codes=frozenset({500}), classes=frozenset({4})), "ambiguous"),
        (StatusMatch(none=True), "ambiguous"),
        (StatusMatch(none=True), "not_executed"),
    ]


LOOKUP = "lookup: {request: GET /m, items: body.m, id: id, absent_after: 5m, horizon: 30d}"
NATIVE = "native: {header: X-Key, retention: 24h}"

SETTLING = {
    # lines -> ways, can it look up, quiet seconds
    "nothing": ("", ((), False, 60.0)),
    "a native key is re-sent": (NATIVE, (("resend",), False, 60.0)),
    "a natural call is re-sent": ("native: {natural: true, retention: 30s}", (("resend",), False, 60.0)),
    "a look-up is asked": (f"settle: {{{LOOKUP}}}", (("lookup",), True, 300.0)),
    "both, a re-send first": (f"{NATIVE}\nsettle: {{{LOOKUP}}}", (("resend", "lookup"), True, 300.0)),
    "as written": (f"{NATIVE}\nsettle: {{by: lookup, {LOOKUP}}}", (("lookup",), True, 300.0)),
    "a look-up that is left out is not asked": (
        f"{NATIVE}\nsettle: {{by: resend, {LOOKUP}}}",
        (("resend",), False, 300.0),
    ),
    "requests live as long as said": ("settle: {request_life: 2m}", ((), False, 120.0)),
}


@pytest.mark.parametrize("what", SETTLING)
def test_how_it_is_settled(what, checked):
    lines, expected = SETTLING[what]
    operation = send(checked, lines)
    assert (operation.settle_by, operation.can_look_up, operation.quiet_seconds) == expected


def test_what_no_operation_matches_is_protected(checked):
    found = provider(
        checked,
        above="defaults: {wait: 2s, settle: {request_life: 90s}, key: {from: body.id, window: 1h}, scope: headers.x, "
        "mode: enforce, native: {header: X-Key, retention: 1d}, outcomes: [{status: 400, is: rejected}]}\n",
    )
    rule = found.unmatched
    assert (rule.id, rule.name) == ("unmatched", "unmatched")
    assert sources(rule.key) == [('headers."idempotency-key"', True, "idempotency-key")]
    assert (rule.key.required, rule.key.window_us) == (False, None)
    assert (rule.path_in_identity, rule.key_passes) == (True, True)
    assert (rule.native, rule.tag, rule.outcomes, rule.settle_by) == (None, None, (), ())
    assert (rule.wait_seconds, rule.quiet_seconds) == (2.0, 90.0)
    assert [part.text for part in rule.scope] == ["headers.x"]


@pytest.mark.parametrize("unmatched", ["pass", "refuse"])
def test_what_no_operation_matches_passes_or_is_refused(unmatched, checked):
    assert provider(checked, above=f"defaults: {{unmatched: {unmatched}}}\n").unmatched == unmatched


def test_a_default_connect_timeout_ends_with_the_total(checked):
    assert send(checked, "timeout: {total: 2s}").timeout == Timeouts(2.0, 2.0)


def test_a_mode_is_handed_down_and_overridden(checked):
    report = checked(
        "providers: {api: {base_url: https://x.example, mode: bypass, operations: [{name: a, match: POST /a}, "
        "{name: b, match: POST /b, mode: enforce}]}}\n"
    )
    found = report.policy.providers["api"]
    assert (found.mode, found.unmatched.mode) == (Mode.BYPASS, Mode.BYPASS)
    assert [operation.mode for operation in found.operations] == [Mode.BYPASS, Mode.ENFORCE]


def test_ids_stand_for_names(checked):
    text = (
        "callers: {shop: {id: c1, was: [c0], tokens: [t]}}\n"
        "providers: {api: {id: p1, was: [p0], base_url: https://x.example, operations: [{name: a, id: o1, was: [o0], match: POST /a}]}}\n"
    )
    policy = checked(text).policy
    found, caller = policy.providers["api"], policy.callers[0]
    assert (found.id, found.name, found.was) == ("p1", "api", ("p0",))
    assert (found.operations[0].id, found.operations[0].name, found.operations[0].was) == ("o1", "a", ("o0",))
    assert (caller.id, caller.name, caller.was) == ("c1", "shop", ("c0",))


ROUTES = {
    # base_url, further fields -> scheme, host, port, base path, route
    "https": (
        "https://API.example.com/v3/",
        "",
        ("https", "api.example.com", 443, "/v3"),
        Route("https", "api.example.com", 443, "api.example.com", 443),
    ),
    "a port of its own": (
        "http://api.example.com:8081",
        "",
        ("http", "api.example.com", 8081, ""),
        Route("http", "api.example.com", 8081, "api.example.com", 8081),
    ),
    "a sandbox in its place": (
        "https://api.example.com",
        "connect_to: http://127.0.0.1:9001",
        ("https", "api.example.com", 443, ""),
        Route("http", "api.example.com", 443, "127.0.0.1", 9001, allow_private=True),
    ),
    "a private address that is meant": (
        "http://[::1]:99/x",
        "allow_private: true",
        ("http", "::1", 99, "/x"),
        Route("http", "::1", 99, "::1", 99, allow_private=True),
    ),
}


@pytest.mark.parametrize("what", ROUTES)
def test_where_connections_go(what, checked):
    base_url, fields, (scheme, host, port, base_path), route = ROUTES[what]
    found = checked(f"providers:\n  api:\n    base_url: {base_url!r}\n    {fields}\n").policy.providers["api"]
    assert (found.scheme, found.host, found.port, found.base_path) == (scheme, host, port, base_path)
    assert found.route == route


def test_tls_files_of_the_listener_are_absolute(checked, directory):
    found = checked(
        "server: {tls: {cert: c.pem, key: sub/k.pem, client_ca: ca.pem}}\n"
        "callers: {a: {certificates: [a.internal]}}\nproviders: {api: {base_url: https://x.example}}\n",
        files={"c.pem": "", "sub/k.pem": "", "ca.pem": ""},
    ).policy
    assert found.server.tls == ListenerTls(
        cert_file=str(directory / "c.pem"),
        key_file=str(directory / "sub/k.pem"),
        client_ca_file=str(directory / "ca.pem"),
    )
    assert found.callers[0].certificates == ("a.internal",)


def test_tls_files_are_absolute(checked, directory):
    found = checked(
        "providers: {api: {base_url: https://x.example, tls: {ca: ca.pem, client_cert: sub/me.pem}}}\n",
        files={"ca.pem": "", "sub/me.pem": ""},
    ).policy.providers["api"]
    assert (found.route.ca_file, found.route.client_cert) == (str(directory / "ca.pem"), str(directory / "sub/me.pem"))


def test_aws_is_known_to_be_signed(checked):
    found = checked(
        "providers: {sqs: {base_url: https://sqs.eu-west-1.amazonaws.com, hosts: [sqs.eu-west-1.amazonaws.com]}}\n"
    ).policy.providers["sqs"]
    assert found.signed == "sigv4"


def test_answers_are_kept_no_longer_than_entries(checked):
    ledger = checked("ledger: {retention: {entry: 30d}}\nproviders: {}\n").policy.ledger
    assert (ledger.retention_entry_us, ledger.retention_answer_us) == (30 * DAY_US, 30 * DAY_US)


def test_encryption_keys_are_bytes_newest_first_and_never_shown(checked):
    newest, oldest = bytes(range(32)), bytes(range(32, 64))
    lines = ", ".join(f"'{base64.b64encode(key).decode()}'" for key in (newest, oldest))
    ledger = checked(f"ledger: {{encryption_keys: [{lines}]}}\nproviders: {{}}\n").policy.ledger
    assert ledger.encryption_keys == (newest, oldest)
    assert repr(newest)[2:20] not in repr(ledger)


def test_a_caller_without_a_list_may_call_all_providers(checked):
    text = "callers: {a: {tokens: t}, b: {tokens: [u], providers: []}}\nproviders: {}\n"
    assert [caller.providers for caller in checked(text).policy.callers] == [None, ()]


def test_answers_are_plain_values(checked):
    answers = send(
        checked,
        'answers: {members: {e: {m: "{detail}", n: [1, true]}}, headers: {X-A: "{retryable}"}, content_type: a/b}',
    ).answers
    assert answers == Answers({"e": {"m": "{detail}", "n": [1, True]}}, {"X-A": "{retryable}"}, "a/b")
    assert type(answers.members["e"]["m"]) is str


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("hosts: [A.example, '*.B.example']", ("a.example", "*.b.example")), ("", ())],
)
def test_hosts_are_lower_case_and_never_guessed(text, hosts, checked):
    found = checked(f"providers:\n  api:\n    base_url: https://x.example\n    {text}\n").policy.providers["api"]
    assert found.hosts == hosts
