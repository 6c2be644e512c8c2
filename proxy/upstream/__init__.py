"""Sending a request to a provider exactly once, and knowing how far it got.

==============  ======================================================================================
``client``      :class:`~proxy.upstream.client.SingleSendClient`, the implementation of the Upstream port
``reply``       an answer on its way to the caller
``connection``  one connection: what was written, what came back, whether it can carry another request
``pool``        idle connections, kept briefly and handed out only untouched
``connect``     name to address to socket to TLS; everything that can fail before a byte is written
``addresses``   which addresses are public
``request``     a request as bytes, or a refusal before anything is opened
``answer``      bytes as an answer; no I/O
==============  ======================================================================================
"""
