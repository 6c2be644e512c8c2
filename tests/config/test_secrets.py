"""No message, repr or dump shows what was filled in, or what a secret field holds."""

from __future__ import annotations

import json

import pytest

SECRETS = {
    "LEDGER": "postgresql://u:sekret-ledger@h/d",
    "KEY": "c2VrcmV0LWVuY3J5cHRpb24ta2V5LTMyLWJ5dGVzISE=",
    "OPS": "sekret-ops",
    "TOKEN": "sekret-token",
    "HOOK": "sekret-hook",
    "BEARER": "sekret-bearer",
    "BASIC": "sekret-basic",
    "CLIENT": "sekret-client",
    "ANY": "sekret any",
}

GOOD = """\
server: {allow_anonymous: true}
ledger: {url: "${LEDGER}", encryption_keys: ["${KEY}"]}
admin: {tokens: {ops: {token: "${OPS}", role: operator}, literal: {token: sekret-literal, role: reader}}}
callers: {shop: {tokens: ["${TOKEN}", sekret-literal-2], webhook: {url: https://x.example, secret: "${HOOK}"}}}
providers:
  a: {base_url: https://x.example, auth: {headers: {Authorization: "Bearer ${BEARER}", X-Two: "sekret-${BEARER}"}}}
  b: {base_url: https://x.example, auth: {basic: {username: "${BASIC}", password: sekret-literal-3}}}
  c: {base_url: https://x.example, auth: {oauth2: {token_url: https://x.example, client_id: me, client_secret: "${CLIENT}"}}}
"""


def test_neither_policy_nor_dump_nor_warnings_show_a_secret(checked):
    report = checked(GOOD, environ=SECRETS)
    assert report.problems == ()
    for shown in (repr(report), repr(report.policy), json.dumps(report.effective), "\n".join(report.warnings)):
        assert "sekret" not in shown
        assert SECRETS["KEY"] not in shown


def test_a_dump_says_where_a_secret_comes_from_if_all_of_it_does(checked):
    effective = checked(GOOD, environ=SECRETS).effective
    assert effective["admin"]["tokens"]["ops"]["token"] == "${OPS}"
    assert effective["admin"]["tokens"]["literal"]["token"] == "********"
    assert effective["providers"]["a"]["auth"]["headers"] == {"Authorization": "Bearer ${BEARER}", "X-Two": "********"}
    assert effective["ledger"]["url"] == "${LEDGER}"


def test_a_ledger_url_is_shown_without_its_password(checked):
    effective = checked("ledger: {url: 'postgresql://u:sek:r@et@h/d'}\nproviders: {}\n").effective
    assert effective["ledger"]["url"] == "postgresql://u:********@h/d"


def test_the_secrets_are_there_all_the_same(checked):
    policy = checked(GOOD, environ=SECRETS).policy
    assert policy.ledger.url == SECRETS["LEDGER"]
    assert policy.server.admin_tokens["ops"] == ("sekret-ops", "operator")
    assert policy.callers[0].tokens == ("sekret-token", "sekret-literal-2")
    assert policy.providers["a"].auth_headers == (
        (b"Authorization", b"Bearer sekret-bearer"),
        (b"X-Two", b"sekret-sekret-bearer"),
    )
    assert policy.providers["b"].auth_headers == (
        (b"Authorization", b"Basic c2VrcmV0LWJhc2ljOnNla3JldC1saXRlcmFsLTM="),
    )


PLACES = [
    "server: {listen: '%s'}",
    "server: {workers: '%s'}",
    "server: {drain: '%s'}",
    "server: {max_request_body: '%s'}",
    "server: {allow_anonymous: '%s'}",
    "server: {hosts: ['%s']}",
    "server: {tls: {cert: '%s', key: '%s'}}",
    "server: '%s'",
    "ledger: {url: '%s'}",
    "ledger: {url: 'mysql://u:%s@h/d'}",
    "ledger: {encryption_keys: ['%s']}",
    "admin: {tokens: {a: {token: '%s\t', role: '%s'}}}",
    "callers: {a: {networks: ['%s']}}",
    "callers: {a: {tokens: [t], providers: ['%s']}}",
    "callers: {a: {tokens: [t], concurrency: '%s'}}",
    "include: ['%s']",
    "version: '%s'",
    "providers: {p: {preset: '%s'}}",
    "providers: {p: {preset: './%s'}}",
    "providers: {p: {base_url: '%s'}}",
    "providers: {p: {base_url: 'https://u:%s@x.example'}}",
    "providers: {p: {base_url: 'https://x.example?%s'}}",
    "providers: {p: {base_url: https://x.example, mode: '%s'}}",
    "providers: {p: {base_url: https://x.example, credential: '%s'}}",
    "providers: {p: {base_url: https://x.example, scope: '!%s.a'}}",
    "providers: {p: {base_url: https://x.example, operations: '%s'}}",
    "providers: {p: {base_url: https://x.example, operations: ['%s']}}",
    "providers: {p: {base_url: https://x.example, operations: [{name: '%s', match: '%s'}]}}",
    "providers: {p: {base_url: https://x.example, operations: [{name: s, match: 'POST %s', when: '`%s`'}]}}",
    "providers: {p: {base_url: https://x.example, operations: [{name: s, match: POST /, settle: {lookup: {request: '%s'}}}]}}",
    "providers: {p: {base_url: https://x.example, answers: {members: {a: '{%s}'}}, store: {redact: '%s'}}}",
]


@pytest.mark.parametrize("filled", ["sekret any", "sekret", "a.sekret", "/sekret"])
@pytest.mark.parametrize("place", PLACES)
def test_a_complaint_shows_what_was_written_not_what_was_filled_in(place, filled, checked):
    report = checked(place.replace("%s", "${ANY}") + "\n", environ={"ANY": filled})
    assert report.problems or filled != "sekret any"
    for problem in report.problems:
        assert "sekret" not in str(problem)
        assert "sekret" not in repr(problem)


@pytest.mark.parametrize(
    "text",
    [
        "admin: {tokens: {a: {token: ' sekret', role: reader}}}\n",
        "callers: {a: {tokens: [[sekret]], webhook: {url: https://x.example, secret: {sekret: 1}}}}\n",
        "ledger: {url: 'sekret'}\n",
        "ledger: {encryption_keys: [sekret]}\n",
        "providers: {p: {base_url: https://x.example, auth: {headers: {A: ' sekret'}, basic: {username: ' sekret'}}}}\n",
    ],
)
def test_a_complaint_about_a_secret_field_never_quotes_it(text, checked):
    report = checked(text)
    assert report.problems
    assert "sekret" not in "\n".join(map(str, report.problems)).replace("secret", "")
