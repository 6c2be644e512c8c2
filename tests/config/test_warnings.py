"""What is valid and still worth saying."""

from __future__ import annotations

import pytest

HEAD = "providers:\n  api:\n    base_url: https://api.example.com\n"
OPERATION = HEAD + "    operations:\n      - name: send\n        match: POST /send\n"

WARNINGS = {
    "no providers": (
        "version: 1\n",
        ["1: there are no providers: every request will be refused (add one under `providers`)"],
    ),
    "TLS on the listener": (
        "server: {tls: {cert: config.yaml, key: config.yaml}}\n" + HEAD,
        [],
    ),
    "encryption keys": ("ledger: {encryption_keys: ['%s']}\n" % ("A" * 43 + "=") + HEAD, []),
    "several processes": (
        "server: {workers: 2}\nledger: {url: 'postgresql://h/d'}\n" + HEAD,
        ["1: server.workers: is checked, but has no effect yet (one process serves)"],
    ),
    "one process": ("server: {workers: 1}\n" + HEAD, []),
    "observe": (
        HEAD + "    mode: observe\n",
        [
            "4: providers.api.mode: observe is checked, but has no effect yet (requests are forwarded, nothing is recorded)"
        ],
    ),
    "a fuse": (
        HEAD + "    fuse: {ambiguous: 3}\n",
        ["4: providers.api.fuse: is checked, but has no effect yet (sending is never paused)"],
    ),
    "facts and suspects": (
        OPERATION + "        facts: {a: request.body.a}\n        suspect: {window: 1m}\n",
        [
            "7: providers.api.operations[0].facts: is checked, but has no effect yet (nothing is kept to search for)",
            (
                "8: providers.api.operations[0].suspect: is checked, but has no effect yet "
                "(other keys with the same fingerprint are not noticed)"
            ),
        ],
    ),
    "empty facts": (OPERATION + "        facts: {}\n", []),
    "unresolved: hold is what happens": (OPERATION + "        settle: {unresolved: hold}\n", []),
    "unresolved: resend": (
        OPERATION + "        settle: {unresolved: resend}\n",
        [
            "7: providers.api.operations[0].settle.unresolved: is checked, but has no effect yet (ambiguous entries are held)"
        ],
    ),
    "a look-up that proves nothing": (
        OPERATION + "        settle:\n          request_life: 5s\n"
        "          lookup: {request: GET /m, items: body.m, id: id, absent_after: 60s, horizon: 30d}\n",
        [
            (
                "8: providers.api.operations[0].settle.request_life: is not used where there is a look-up: "
                "absent_after stands in its place"
            ),
            "9: providers.api.operations[0].settle.lookup: is checked, but has no effect yet (no provider is asked)",
            (
                "9: providers.api.operations[0].settle.lookup: without `complete` or `absent`, finding nothing never proves "
                "that nothing happened"
            ),
        ],
    ),
    "a timeout as proof": (
        OPERATION + "        outcomes: [{status: none, is: not_executed}]\n",
        [
            (
                "7: providers.api.operations[0].outcomes[0]: a timeout will count as proof that nothing happened; "
                "the call is then sent again"
            )
        ],
    ),
    "an outcome behind a wider one": (
        OPERATION
        + "        outcomes: [{status: [400, 409], is: rejected}, {status: 409, when: doubt, is: ambiguous}]\n",
        [
            "7: providers.api.operations[0].outcomes[1]: is never reached: an earlier line without `when` has these statuses"
        ],
    ),
    "an operation behind a wider one": (
        HEAD + "    operations:\n      - {name: all, match: POST /**}\n      - {name: one, match: [POST /a, PUT /a]}\n"
        "      - {name: two, match: 'POST /b/{id}'}\n",
        [
            "6: providers.api.operations[1].match[0]: is never reached: operation 'all' comes first and matches it",
            "7: providers.api.operations[2].match: is never reached: operation 'all' comes first and matches it",
        ],
    ),
    "an operation behind one with a condition": (
        HEAD
        + "    operations:\n      - {name: some, match: POST /a, when: 'body.x'}\n      - {name: rest, match: POST /a}\n",
        [],
    ),
    "narrow before wide": (
        HEAD + "    operations:\n      - {name: one, match: 'POST /a/{id}'}\n      - {name: all, match: POST /a/**}\n",
        [],
    ),
    "clear text": (
        "providers:\n  api: {base_url: 'http://api.example.com'}\n  near: {base_url: 'http://10.0.0.1', allow_private: true}\n",
        ["2: providers.api.base_url: requests to 'http://api.example.com' cross the network in clear (use https://)"],
    ),
    "a connect timeout that never comes": (
        OPERATION + "        timeout: {connect: 9s, total: 4s}\n",
        ["7: providers.api.operations[0].timeout.connect: timeout.total ends it earlier, after 4s"],
    ),
    "a short total": (OPERATION + "        timeout: {total: 4s}\n", []),
    "a preset": ("providers: {stripe: {preset: stripe}}\n", []),
}


@pytest.mark.parametrize("what", WARNINGS)
def test_it_is_said(what, checked):
    text, expected = WARNINGS[what]
    report = checked(text)
    assert report.problems == ()
    assert [warning.removeprefix("config.yaml:") for warning in report.warnings] == expected
    assert report.policy.warnings == report.warnings
