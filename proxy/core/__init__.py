"""The rules of Dedup Proxy, pure: values in, values out.

Nothing in this package awaits, logs, reads a clock, draws a random number or talks to a database or a socket. What it
needs of the world comes in as an argument (``now``, a token) or through a Protocol in :mod:`proxy.core.ports`.

============  =========================================================================================
``model``     frozen values: Request, Answer, Identity, Attempt, Entry
``states``    the state table and :func:`~proxy.core.states.apply`; nobody else changes a status
``reasons``   the slugs that say why, on the wire and in the ledger
``policy``    the compiled rules of a configuration, and which of them a request meets
``documents`` what an expression sees of a request or an answer
``expressions``  JMESPath, compiled once
``keys``      key, identity, fingerprint, outgoing key
``rewrite``   putting the outgoing key or a tag into a request without disturbing the rest
``outcome``   what came back -> event; the one place that knows what is ambiguous
``arrival``   a request read by its rule: operation, key, identity, fingerprint
``decide``    what to do with a request that arrives
``settle``    whether an ambiguous call may be asked about again; ``quiet``: when nothing of it can still be on its way
``drafts``    an attempt as it is to be: the row and the request; ``outgoing``: the request's wire form
``problems``  the proxy's own answers
``ports``     what the core asks of ledger, upstream, clock and ids
============  =========================================================================================
"""
