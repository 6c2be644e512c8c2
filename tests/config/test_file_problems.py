"""What is wrong with a whole file, told with line, path and fix, word for word."""

from __future__ import annotations

import pytest

from proxy.config import check

PROVIDER = "providers: {api: {base_url: https://api.example.com}}\n"
OPERATION = "providers: {api: {base_url: https://api.example.com, operations: [{name: send, match: POST /send%s}]%s}}\n"
NATIVE_RAW = ", native: {header: X-Key, format: raw, retention: 24h}"

# what is wanted: the file -> "line: path: message (fix)"
PROBLEMS = {
    "an unknown section": (
        "serevr: {}\n" + PROVIDER,
        ["1: serevr: is not known here (did you mean server?)"],
    ),
    "another version": ("version: 2\n" + PROVIDER, ["1: version: must be 1, not 2"]),
    "sections of the wrong shape": (
        "providers: [a]\ncallers: x\nserver: []\ndefaults: 3\n",
        [
            "1: providers: must be a mapping (write NAME: {...} below it)",
            "2: callers: must be a mapping (write NAME: {...} below it)",
            "3: server: must be a mapping, not a list",
            "4: defaults: must be a mapping (write NAME: {...} below it)",
        ],
    ),
    # -- listeners
    "other machines and no callers": (
        "server: {listen: 0.0.0.0:8080}\n" + PROVIDER,
        [
            (
                "1: server.listen: '0.0.0.0:8080' serves other machines, and no callers are configured "
                "(configure `callers`, listen on 127.0.0.1, or set server.allow_anonymous: true)"
            )
        ],
    ),
    "an open admin listener without tokens": (
        "server:\n  admin_listen: '[::]:8081'\n" + PROVIDER,
        [
            (
                "2: server.admin_listen: '[::]:8081' is open to other machines, and there are no admin.tokens "
                "(configure `admin.tokens`, or listen on 127.0.0.1)"
            )
        ],
    ),
    "one address for both listeners": (
        "server: {admin_listen: 127.0.0.1:8080}\n" + PROVIDER,
        ["1: server.admin_listen: is the data listener's address too (give it a port of its own)"],
    ),
    "an address without a host": (
        "server: {listen: ':8080'}\n" + PROVIDER,
        [
            (
                "1: server.listen: ':8080' is not an address to listen on "
                "(write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080)"
            )
        ],
    ),
    "types that YAML would have guessed": (
        "server:\n  workers: '2'\n  allow_anonymous: no\n  max_request_body: 10MB\n  drain: 1.5s\n" + PROVIDER,
        [
            "2: server.workers: must be a number, not '2' (remove the quotes)",
            "3: server.allow_anonymous: must be true or false, not 'no' (write false)",
            "4: server.max_request_body: '10MB' is not a size (write 10MiB, or 10000000 for bytes)",
            "5: server.drain: '1.5s' is not a duration (write 1500ms)",
        ],
    ),
    "a file that is not there": (
        "server: {tls: {cert: gone.pem, key: config.yaml}}\n" + PROVIDER,
        ["1: server.tls.cert: there is no file 'gone.pem' beside config.yaml"],
    ),
    # -- ledger
    "several processes on SQLite": (
        "server: {workers: 4}\n" + PROVIDER,
        [
            (
                "1: server.workers: SQLite serves one process "
                "(set workers: 1, or use PostgreSQL: ledger.url: postgresql://...)"
            )
        ],
    ),
    "another database": (
        "ledger: {url: 'mysql://x:sekret@y/z'}\n" + PROVIDER,
        [
            (
                "1: ledger.url: names no ledger that is known "
                "(write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE)"
            )
        ],
    ),
    "an old name of PostgreSQL": (
        "ledger: {url: 'postgres://x:sekret@y/z'}\n" + PROVIDER,
        ["1: ledger.url: names no ledger that is known (begin with postgresql://)"],
    ),
    "a ledger in memory": (
        "ledger: {url: 'sqlite:///:memory:'}\n" + PROVIDER,
        ["1: ledger.url: must name a file that stays (write sqlite:///dedup.db)"],
    ),
    "two slashes": (
        "ledger: {url: 'sqlite://dedup.db'}\n" + PROVIDER,
        [
            (
                "1: ledger.url: names no ledger that is known "
                "(three slashes before a relative path, four before an absolute one: sqlite:///dedup.db)"
            )
        ],
    ),
    "answers kept longer than entries": (
        "ledger: {retention: {entry: 30d, answer: 40d}}\n" + PROVIDER,
        ["1: ledger.retention.answer: answers can't be kept longer than their entries (30d) (write 30d or less)"],
    ),
    "entries forgotten before the provider forgets": (
        "ledger: {retention: {entry: 24h}}\n"
        + OPERATION % (", key: {window: 48h}, native: {header: X-Key, retention: 24h}", ""),
        [
            "1: ledger.retention.entry: 1d is not longer than key.window of operation 'send' of 'api' (2d) (write more than 2d)",
            "1: ledger.retention.entry: 1d is not longer than native.retention of operation 'send' of 'api' (1d) (write more than 1d)",
        ],
    ),
    "entries forgotten before the quiet time is over": (
        "ledger: {retention: {entry: 60s}}\n" + OPERATION % ("", ""),
        [
            (
                "1: ledger.retention.entry: 1m is not longer than timeout.total and the quiet time of operation 'send' of 'api' (90s) "
                "(write more than 90s)"
            )
        ],
    ),
    "a short encryption key": (
        "ledger: {encryption_keys: [c2hvcnQ=]}\n" + PROVIDER,
        [
            (
                "1: ledger.encryption_keys[0]: an encryption key is the base64 of 32 bytes "
                "(make one with: openssl rand -base64 32)"
            )
        ],
    ),
    # -- callers and tokens
    "a caller that nothing names": (
        "callers: {a: {}}\n" + PROVIDER,
        ["1: callers.a: nothing names this caller (give it tokens, networks or certificates)"],
    ),
    "a caller left empty": ("callers: {a: }\n" + PROVIDER, ["1: callers.a: is empty"]),
    "a caller's provider that does not exist": (
        "callers: {a: {tokens: [t1], providers: [apy]}}\n" + PROVIDER,
        ["1: callers.a.providers[0]: there is no provider 'apy' (did you mean api?)"],
    ),
    "one token for two": (
        "callers: {a: {tokens: [t1]}, b: {tokens: [t2, t1]}}\nadmin: {tokens: {ops: {token: t2, role: operator}}}\n"
        + PROVIDER,
        [
            "1: callers.b.tokens[1]: is the token of caller 'a' too (give each its own)",
            "2: admin.tokens.ops.token: is the token of caller 'b' too (give each its own)",
        ],
    ),
    "empty tokens": (
        "callers: {a: {tokens: ['']}, b: {tokens: ['${T:-}']}, c: {tokens: [' x']}}\n" + PROVIDER,
        [
            "1: callers.a.tokens[0]: a secret must not be empty: anyone would have it",
            "1: callers.b.tokens[0]: a secret must not be empty: anyone would have it",
            "1: callers.c.tokens[0]: a secret must not hold control characters or white space around it",
        ],
    ),
    "tokens and credentials that no header carries": (
        "callers: {a: {tokens: [caf\u00e9]}}\nproviders: {p: {base_url: https://x.example, auth: {headers: {A: caf\u00e9}}}}\n",
        [
            "1: callers.a.tokens[0]: a header carries ASCII only",
            "2: providers.p.auth.headers.A: a header carries ASCII only",
        ],
    ),
    "networks": (
        "callers:\n  a: {networks: [10.0.0.1/8]}\n  b: {networks: [nonsense]}\n  c: {networks: [10.1.0.0/16]}\n"
        "  d: {networks: [10.1.0.0/16]}\n" + PROVIDER,
        [
            "2: callers.a.networks[0]: '10.0.0.1/8' is not a network (write 10.0.0.0/8)",
            "3: callers.b.networks[0]: 'nonsense' is not a network (write 10.20.0.0/16, say)",
            "5: callers.d.networks[0]: names caller 'c' already",
        ],
    ),
    "certificates that nobody asks for": (
        "callers: {a: {certificates: [x.internal]}}\n" + PROVIDER,
        ["1: callers.a.certificates: the listener asks for no client certificates (set server.tls.client_ca)"],
    ),
    "a certificate's name twice": (
        "server: {tls: {cert: config.yaml, key: config.yaml, client_ca: config.yaml}}\n"
        "callers:\n  a: {certificates: [x.internal]}\n  b: {certificates: [X.Internal]}\n" + PROVIDER,
        ["4: callers.b.certificates[0]: names caller 'a' already"],
    ),
    "a former id that is somebody's": (
        "callers:\n  a: {tokens: [t], was: [b]}\n  b: {tokens: [u]}\n" + PROVIDER,
        ["3: callers.b: 'b' is the id of caller 'a' already, at config.yaml:2 (ids are never shared)"],
    ),
    # -- providers
    "a name that no path can hold": (
        "providers: {.dedup: {base_url: https://x.example}}\n",
        [
            (
                "1: providers..dedup: '.dedup' is not a name "
                "(up to 64 letters, digits, dots, dashes and underscores, a letter or digit first)"
            )
        ],
    ),
    "no base URL": (
        "providers:\n  api:\n    wait: 5s\n",
        ["2: providers.api.base_url: is required (scheme, host and path that all requests go under)"],
    ),
    "URLs": (
        (
            "providers:\n  a: {base_url: 'ftp://x'}\n  b: {base_url: 'https://u:sekret@x.example'}\n"
            "  c: {base_url: 'https://x.example?q=1'}\n  d: {base_url: 'https://x.example:99999'}\n  e: {base_url: x.example}\n"
        ),
        [
            "2: providers.a.base_url: must be an http:// or https:// URL",
            "3: providers.b.base_url: a URL must not hold a user or password (use `auth`)",
            "4: providers.c.base_url: must not hold a query or fragment (leave out everything from ? or #)",
            "5: providers.d.base_url: is not a URL",
            "6: providers.e.base_url: must be an http:// or https:// URL (write https://x.example)",
        ],
    ),
    "private addresses": (
        (
            "providers:\n  a: {base_url: 'http://127.0.0.1:9'}\n  b: {base_url: 'https://10.0.0.8/'}\n"
            "  c: {base_url: 'http://localhost'}\n  d: {base_url: 'http://[fe80::1]'}\n"
            "  e: {base_url: 'http://127.0.0.1', allow_private: true}\n"
            "  f: {base_url: 'http://10.1.1.1', connect_to: 'http://10.1.1.1'}\n"
        ),
        [
            f"{line}: providers.{name}.base_url: '{url}' is a private or loopback address "
            "(set allow_private: true if it is meant, or connect_to for a sandbox)"
            for line, name, url in (
                (2, "a", "http://127.0.0.1:9"),
                (3, "b", "https://10.0.0.8/"),
                (4, "c", "http://localhost"),
                (5, "d", "http://[fe80::1]"),
            )
        ],
    ),
    "a path where connections go": (
        "providers: {api: {base_url: https://x.example, connect_to: 'http://127.0.0.1:9/path'}}\n",
        ["1: providers.api.connect_to: names a host and port only (leave out the path; the provider's own stays)"],
    ),
    "hosts that are taken": (
        (
            "server: {hosts: [proxy.internal]}\nproviders:\n"
            "  a: {base_url: https://x.example, hosts: [a.example, localhost, proxy.internal]}\n"
            "  b: {base_url: https://x.example, hosts: [A.example, '*.a.example']}\n"
        ),
        [
            "3: providers.a.hosts[1]: 'localhost' is what clients call this proxy itself (remove it)",
            "3: providers.a.hosts[2]: 'proxy.internal' is what clients call this proxy itself (remove it)",
            (
                "4: providers.b.hosts[0]: 'a.example' is provider 'a''s already "
                "(set hosts: [] in 'b'; its clients then use the path prefix /b)"
            ),
        ],
    ),
    "hosts that are none": (
        "providers: {a: {base_url: https://x.example, hosts: ['https://x', '*.*.x']}}\n",
        [
            f"1: providers.a.hosts[{index}]: '{host}' is not a host name "
            "(write a name such as api.example.com or *.example.com, without scheme or port)"
            for index, host in enumerate(("https://x", "*.*.x"))
        ],
    ),
    "provider ids": (
        (
            "providers:\n  a: {base_url: https://x.example, id: x}\n  b: {base_url: https://x.example, was: [x]}\n"
            "  x: {base_url: https://x.example, id: y}\n"
        ),
        ["3: providers.b.was[0]: 'x' is the id of provider 'a' already, at config.yaml:2 (ids are never shared)"],
    ),
    "operation ids": (
        OPERATION % ("}, {name: two, id: send, match: POST /two", ""),
        [
            (
                "1: providers.api.operations[1].id: 'send' is the id of operation 'send' already, at config.yaml:1 "
                "(ids are never shared)"
            )
        ],
    ),
    "two operations of one name": (
        OPERATION % ("}, {name: send, match: POST /two", ""),
        [
            "1: providers.api.operations[1]: another operation is named 'send', at config.yaml:1 (give each its own name)"
        ],
    ),
    "fields in the wrong place": (
        "defaults: {base_url: 'https://x.example', name: y}\n"
        + OPERATION % (", concurrency: 3", ", key: {required: false}"),
        [
            (
                "1: defaults.base_url: can't be a default "
                "(it belongs in each provider or operation: there is no default for it)"
            ),
            (
                "1: defaults.name: can't be a default "
                "(it belongs in each provider or operation: there is no default for it)"
            ),
            "2: providers.api.key: stands in the wrong place (it belongs in an operation, or in `defaults`)",
            "2: providers.api.operations[0].concurrency: stands in the wrong place (it belongs in the provider)",
        ],
    ),
    "operations as a mapping": (
        "providers: {api: {base_url: https://x.example, operations: {send: {match: POST /x}}}}\n",
        ["1: providers.api.operations: must be a list (write - name: ... below it)"],
    ),
    "an operation as a word": (
        "providers: {api: {base_url: https://x.example, operations: [send]}}\n",
        ["1: providers.api.operations[0]: must be a mapping, not 'send' (write - name: ...)"],
    ),
    "credentials for anyone": (
        "providers: {api: {base_url: https://x.example, auth: {headers: {Authorization: x}}}}\n",
        [
            (
                "1: providers.api.auth: credentials would be lent to anyone who can reach the listener: "
                "no callers are configured (configure `callers`, or set server.allow_anonymous: true)"
            )
        ],
    ),
    "two ways to authenticate": (
        (
            "server: {allow_anonymous: true}\n"
            "providers: {api: {base_url: https://x.example, auth: {headers: {Host: x}, basic: {username: y}}}}\n"
        ),
        [
            "2: providers.api.auth: headers and basic are given together (write one of them)",
            "2: providers.api.auth.headers.Host: belongs to HTTP or to this proxy",
        ],
    ),
    "no way to authenticate": (
        "server: {allow_anonymous: true}\nproviders: {api: {base_url: https://x.example, auth: {}}}\n",
        ["2: providers.api.auth: needs one of headers, basic and oauth2 (write one of them)"],
    ),
    "raw keys of several operations": (
        OPERATION % (NATIVE_RAW + "}, {name: two, match: POST /two", ""),
        [
            (
                "1: providers.api.operations[0].native.format: raw keys of 2 operations meet at this provider: one call would "
                "get another's answer (use uuid or hex32, or write raw_shared: accept if every caller's keys are unique everywhere)"
            )
        ],
    ),
    "raw keys of several callers": (
        "callers: {a: {tokens: [t]}, b: {tokens: [u]}}\n" + OPERATION % (NATIVE_RAW, ""),
        [
            (
                "2: providers.api.operations[0].native.format: raw keys of 2 callers meet at this provider: one call would "
                "get another's answer (use uuid or hex32, or write raw_shared: accept if every caller's keys are unique everywhere)"
            )
        ],
    ),
    "raw keys of the one caller of this provider": (
        "callers: {a: {tokens: [t]}, b: {tokens: [u], providers: []}}\n" + OPERATION % (NATIVE_RAW, ""),
        [],
    ),
    "signed requests": (
        (
            "callers: {a: {tokens: [t]}}\nproviders:\n  sqs:\n    base_url: https://sqs.eu-west-1.amazonaws.com\n"
            "    auth: {basic: {username: x}}\n    operations:\n"
            "      - {name: s, match: POST /, native: {body: Token, retention: 5m}, tag: {header: X-Tag}}\n"
        ),
        [
            (
                "3: providers.sqs.hosts: requests to AWS are signed for their host, so they can't come by path prefix "
                "(write their host here and send them with it as Host, or through the forward proxy)"
            ),
            "5: providers.sqs.auth: AWS requests carry their own signature (remove it)",
            (
                "7: providers.sqs.operations[0].native.body: would break the signature of the request "
                "(use a header, or let the caller set it)"
            ),
        ],
    ),
    "statements": (
        OPERATION
        % (
            ", facts: {order: request.body.o}",
            (
                ", statements: {m: {operations: [sent], match: {ordr: x}, compare: {sum: y}, time: {from: t, zone: Mars/X}}, "
                "n: {match: [{key: a}, {nope: b}]}}"
            ),
        ),
        [
            "1: providers.api.statements.m.operations[0]: there is no operation 'sent' (did you mean send?)",
            "1: providers.api.statements.m.match.ordr: there is no fact 'ordr' (did you mean order?)",
            "1: providers.api.statements.m.compare.sum: there is no fact 'sum' (declare it under `facts` of the operation)",
            "1: providers.api.statements.m.time.zone: there is no time zone 'Mars/X' (write UTC or Europe/Berlin, say)",
            (
                "1: providers.api.statements.n.match[1].nope: there is no fact 'nope' "
                "(use outgoing_key, key, id, or a fact of its operations)"
            ),
        ],
    ),
    # -- presets
    "presets that do not exist": (
        "providers:\n  a: {preset: strip, wait: 3}\n  b: {preset: ./gone.yaml}\n  c: {preset: 3}\n  d: {preset: ../x}\n",
        [
            "2: providers.a.preset: there is no preset 'strip' (did you mean stripe?)",
            "2: providers.a.wait: 3 is not a duration (a duration needs a unit: 3s, say)",
            "3: providers.b.preset: can't read the preset './gone.yaml' (it is looked for at gone.yaml)",
            "4: providers.c.preset: must be the name of a preset, or a path",
            "5: providers.d.preset: can't read the preset '../x' (it is looked for at ../x)",
        ],
    ),
}


def told(report):
    return [str(problem).removeprefix("config.yaml:") for problem in report.problems]


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_file_is_refused_with_reasons(what, checked):
    text, expected = PROBLEMS[what]
    report = checked(text)
    assert told(report) == expected
    assert (report.policy is None) == bool(expected)


FINE = {
    "a preset is a whole file": "providers: {stripe: {preset: stripe}}\n",
    "callers let other machines in": "server: {listen: 0.0.0.0:8080}\ncallers: {a: {tokens: [t]}}\n" + PROVIDER,
    "anonymous callers let other machines in": "server: {listen: 0.0.0.0:8080, allow_anonymous: true}\n" + PROVIDER,
    "admin tokens let other machines in": "server: {admin_listen: 0.0.0.0:81}\nadmin: {tokens: {a: {token: t, role: reader}}}\n"
    + PROVIDER,
    "two listeners on free ports": "server: {listen: 127.0.0.1:0, admin_listen: 127.0.0.1:0}\n" + PROVIDER,
    "localhost is loopback": "server: {listen: localhost:8080, admin_listen: '[::1]:8081'}\n" + PROVIDER,
    "the native key outlives any ledger": OPERATION % (", native: {header: X-Key, retention: forever}", ""),
    "a ledger that never forgets": "ledger: {retention: {entry: forever, answer: forever}}\n"
    + OPERATION % (", native: {header: X-Key, retention: 400d}", ""),
    "several processes on PostgreSQL": "server: {workers: 4}\nledger: {url: 'postgresql://h/d'}\n" + PROVIDER,
    "wildcards beside names": "providers:\n  a: {base_url: https://x.example, hosts: [a.example]}\n"
    "  b: {base_url: https://x.example, hosts: ['*.a.example']}\n",
    "anchors": "x-common: &c {timeout: {total: 9s}}\nproviders: {api: {<<: *c, base_url: https://x.example}}\n",
}


@pytest.mark.parametrize("what", FINE)
def test_a_file_is_accepted(what, checked):
    report = checked(FINE[what])
    assert told(report) == []
    assert report.policy is not None


def test_a_file_that_is_not_there(directory):
    (directory / "config.yaml").mkdir()
    assert [str(problem) for problem in check("config.yaml", {}).problems] == [
        "config.yaml:1: can't read config.yaml: Is a directory"
    ]
    assert [str(problem) for problem in check("gone.yaml", {}).problems] == [
        "gone.yaml:1: can't read gone.yaml: No such file or directory"
    ]


def test_a_file_that_is_not_text_is_told_with_its_line(directory):
    (directory / "config.yaml").write_bytes(b"version: 1\nprovid\xff: {}\n")
    assert [str(problem) for problem in check("config.yaml", {}).problems] == [
        "config.yaml:2: is not UTF-8 text (save the file as UTF-8)"
    ]
