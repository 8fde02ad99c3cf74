"""Counts and times for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """What a server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vlfew_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "vlfew_request_seconds",
            "From the head of a request to its answer.",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
        )
        self.batch_images = Histogram(
            "vlfew_batch_images",
            "Images that were encoded and searched together.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.identities = Gauge("vlfew_identities", "Enrolled identities.", registry=self.registry)
        self.items = Gauge("vlfew_items", "Enrolled images and texts.", registry=self.registry)
        self.waiting = Gauge(
            "vlfew_waiting_images", "Images that wait, are decoded or identified.", registry=self.registry
        )
        self.restarts = Gauge(
            "vlfew_decoder_restarts", "Decoding processes that had to be replaced.", registry=self.registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        known = method if method in METHODS else "other"
        self.requests.labels(known, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
