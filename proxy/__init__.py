"""Dedup Proxy: an outbound HTTP proxy that makes every retried call to a provider take effect once."""
