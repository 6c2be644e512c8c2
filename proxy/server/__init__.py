"""The composition root, and everything that a request meets before and after the exchange.

==================  =========================================================================================
``app``             puts everything together and serves until told to stop
``data``            the data listener: one request read, answered, written, logged
``front``           the story of a request: who, where, which rule, which body
``routing``         which provider, by path prefix or by host; ``callers``: who sends
``signatures``      requests that must not be changed; ``preferences``: what a caller prefers
``problems``        our own answers; ``facts``: our headers; ``framing``: answers as bytes
``wire``            aiohttp, and nothing of it elsewhere but in ``data``; ``incoming``: what it reads
``sweep``           leases that ran out; ``runtime``: clock and chance; ``checkpoints``: places to die, for tests
==================  =========================================================================================
"""
