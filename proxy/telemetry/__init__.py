"""What operators see: metrics, and one log line per request. Neither ever holds a key, a credential or a body.

``metrics``  Prometheus, in a registry of its own
``log``      JSON lines with stable names
"""
