"""When certificates end, for Prometheus: as the moment itself, so that a scrape missed is no information lost."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from certs.bundle import Observed
from certs.policy import certificates

SERVING: Final = "serving"
"""What the webhook shows in handshakes (its own metrics), or what the Secret holds for it (the controller's)."""
AUTHORITY: Final = "authority"
"""The newest certificate that the configuration makes the API server trust; only of our own authority."""


def end_of(pem: str) -> datetime | None:
    """Return when the first certificate of *pem* ends; None if there is none."""
    found = certificates(pem)
    return found[0].not_valid_after_utc if found else None


class Expiry(Collector):
    """What was last seen of each certificate."""

    def __init__(self) -> None:
        self._ends: dict[str, datetime] = {}

    def see(self, certificate: str, end: datetime | None) -> None:
        """Note that *certificate* ends then; None: there is none any more."""
        if end is None:
            self._ends.pop(certificate, None)
        else:
            self._ends[certificate] = end

    def see_observed(self, observed: Observed) -> None:
        """Note what the cluster holds."""
        self.see(SERVING, end_of(observed.leaf.certificate))
        self.see(AUTHORITY, end_of(observed.state.current.certificate))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge, labelled by certificate; no sample if there is no certificate."""
        gauge = GaugeMetricFamily(
            "snapshot_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate ends.",
            labels=["certificate"],
        )
        for certificate, end in self._ends.items():
            gauge.add_metric([certificate], end.timestamp())
        yield gauge
