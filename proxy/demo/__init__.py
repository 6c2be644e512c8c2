"""The demo: services that retry, providers that misbehave on purpose, one ``kill -9`` of the proxy; then the count.

It is a user of the proxy, not a part of it: nothing here imports the proxy's own modules. Proxy, sandbox and services are
processes of their own, and what is true is what the sandbox's effect logs say.

``story``         the entry point, top to bottom
``setting``       where it plays: directory, ports, the proxy's configuration
``processes``     children that end with the story, whatever way it ends
``sandbox``       the providers' process: ``provider`` what all share, ``pay`` and ``mail`` what each is
``misbehaviour``  what goes wrong, drawn from the seed
``effects``       effect logs, durable before a provider answers
``services``      the callers' process; ``retries`` when a caller tries again
``observations``  what callers were told
``ledger_view``   what the proxy's admin listener says of its entries
``verdict``       whether all of that agrees
``report``        the numbers, as a table and as JSON
"""
