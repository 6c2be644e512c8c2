"""Prometheus metrics in a registry of their own. Labels are ids from the configuration, never what a caller chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from proxy.core.model import Status

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMMIT_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_OPERATION: Final = ("provider", "operation")


class Metrics:
    """Counts. Implements :class:`proxy.core.ports.Observer`."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"
    """Of what :meth:`expose` gives."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "dedup_requests_total",
            "Requests by what was decided and why.",
            (*_OPERATION, "decision", "reason"),
            registry=registry,
        )
        self._prevented = Counter(
            "dedup_duplicates_prevented_total", "Duplicates answered without a send.", _OPERATION, registry=registry
        )
        self._attempts = Counter(
            "dedup_upstream_attempts_total",
            "Sends of protected calls by how they ended.",
            (*_OPERATION, "outcome"),
            registry=registry,
        )
        self._ambiguous = Counter(
            "dedup_ambiguous_total", "Attempts whose outcome was not known.", _OPERATION, registry=registry
        )
        self._unprotected = Counter(
            "dedup_unprotected_total", "Unsafe requests that went out without a key.", ("provider",), registry=registry
        )
        self._expressions = Counter(
            "dedup_expression_errors_total", "Expressions that could not be evaluated.", _OPERATION, registry=registry
        )
        self._illegal = Counter(
            "dedup_illegal_transitions_total",
            "Transitions the state table doesn't have; must stay 0.",
            registry=registry,
        )
        self._contradictions = Counter(
            "dedup_contradictions_total", "Evidence against what was already final.", registry=registry
        )
        self._request_seconds = Histogram(
            "dedup_request_seconds",
            "From a request's head to the end of its answer.",
            ("provider", "decision"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._upstream_seconds = Histogram(
            "dedup_upstream_seconds",
            "From a send to its answer, or to giving it up.",
            _OPERATION,
            buckets=_SECONDS,
            registry=registry,
        )
        self._commit_seconds = Histogram(
            "dedup_ledger_commit_seconds",
            "One durable write of the ledger.",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "dedup_ledger_batch_size", "Writes that shared one commit.", buckets=_ROWS, registry=registry
        )
        self._entries = Gauge("dedup_entries", "Entries in the ledger.", ("provider", "status"), registry=registry)
        self._oldest = Gauge(
            "dedup_oldest_ambiguous_seconds", "Age of the oldest ambiguous entry.", ("provider",), registry=registry
        )

    def decided(self, provider: str, operation: str, decision: str, reason: str) -> None:
        """As the port says."""
        self._requests.labels(provider, operation, decision, reason).inc()

    def answered(self, provider: str, decision: str, seconds: float) -> None:
        """A request was answered to the last byte, *seconds* after its head."""
        self._request_seconds.labels(provider, decision).observe(seconds)

    def attempt_done(self, provider: str, operation: str, outcome: str) -> None:
        """As the port says."""
        self._attempts.labels(provider, operation, outcome).inc()

    def upstream_done(self, provider: str, operation: str, seconds: float) -> None:
        """As the port says."""
        self._upstream_seconds.labels(provider, operation).observe(seconds)

    def duplicate_prevented(self, provider: str, operation: str) -> None:
        """As the port says."""
        self._prevented.labels(provider, operation).inc()

    def became_ambiguous(self, provider: str, operation: str) -> None:
        """As the port says."""
        self._ambiguous.labels(provider, operation).inc()

    def passed_unprotected(self, provider: str) -> None:
        """As the port says."""
        self._unprotected.labels(provider).inc()

    def expressions_failed(self, provider: str, operation: str, count: int) -> None:
        """As the port says."""
        self._expressions.labels(provider, operation).inc(count)

    def contradicted(self) -> None:
        """As the port says."""
        self._contradictions.inc()

    def transition_refused(self) -> None:
        """A transition that the state table doesn't have was asked for: a bug, and never written."""
        self._illegal.inc()

    def committed(self, seconds: float, rows: int) -> None:
        """The ledger made *rows* writes durable in one commit."""
        self._commit_seconds.observe(seconds)
        self._batch_size.observe(rows)

    def expose(self, counts: Mapping[tuple[str, str], int], oldest_seconds: Mapping[str, float]) -> bytes:
        """All metrics in the text format, with the ledger's *counts* by provider and status as they are now."""
        self._entries.clear()
        for (provider, status), count in _complete(counts).items():
            self._entries.labels(provider, status).set(count)
        self._oldest.clear()
        for provider in _providers(counts):
            self._oldest.labels(provider).set(oldest_seconds.get(provider, 0.0))
        return generate_latest(_WithoutCreated(self.registry))


class _WithoutCreated(CollectorRegistry):
    """A registry without the ``_created`` series, which nobody asks for and which double every counter."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._whole = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._whole.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _providers(counts: Iterable[tuple[str, str]]) -> list[str]:
    return sorted({provider for provider, _ in counts})


def _complete(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Every status of every provider: a gauge that vanishes looks like one that was never there."""
    statuses = [status.value for status in Status]
    return {
        (provider, status): counts.get((provider, status), 0) for provider in _providers(counts) for status in statuses
    }
