"""A TLS context that follows the mounted certificate: new handshakes use the new one, without a restart.

Kubelet replaces the files of a mounted Secret together (a symbolic link is swapped); anything else that writes them
may leave a half-written pair for a moment. A pair is therefore loaded into a context of its own first, and only a
whole one takes over, in one assignment; until then the last good one serves.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from certs.expiry import end_of
from certs.store import SERVING_CERT, SERVING_KEY

POLL_SECONDS: Final = 1.0
"""Two stat calls a second; kubelet itself takes up to a minute, so nothing finer is worth having."""

logger = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class ServingContext:
    """An ``SSLContext`` for servers whose certificate comes from *directory* (``tls.crt``, ``tls.key``)."""

    def __init__(self, directory: Path, see: Callable[[datetime | None], None] = lambda _: None) -> None:
        """Call *see* with the end of each certificate that takes over."""
        self._directory = directory
        self._see = see
        self._current: ssl.SSLContext | None = None
        self._stamp: _Stamp | None = None
        self._complaint = ""
        self.context: Final = _new_context()
        """Give this one to the server; it never changes identity."""
        self.context.sni_callback = self._choose

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve with: part of readiness, handshakes fail before."""
        return self._current is not None

    def refresh(self) -> bool:
        """Look at the files once; True if another certificate has taken over."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            fresh = self._load()
            expires = end_of((self._directory / SERVING_CERT).read_text())
            torn = self._look() != stamp
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._complain(f"{type(error).__name__}: {error}")
            return False
        if torn:
            return False  # the files changed meanwhile; the next look has them whole
        self._current, self._stamp, self._complaint = fresh, stamp, ""
        self._see(expires)
        logger.info("certificate loaded from %s", self._directory)
        return True

    async def follow(self, interval: float = POLL_SECONDS) -> None:
        """Keep looking until cancelled."""
        while True:
            self.refresh()
            await asyncio.sleep(interval)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        """Hand the connection the newest certificate; called in every handshake, with or without a server name."""
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None

    def _look(self) -> _Stamp:
        stats = ((self._directory / name).stat() for name in (SERVING_CERT, SERVING_KEY))
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _load(self) -> ssl.SSLContext:
        context = _new_context()
        # Refuses a key that does not belong to the certificate; a password prompt would block the server for ever.
        context.load_cert_chain(self._directory / SERVING_CERT, self._directory / SERVING_KEY, password=_no_password)
        return context

    def _complain(self, message: str) -> None:
        """Say once what is wrong, not once a second."""
        if message != self._complaint:
            state = "serving with the last good one" if self.loaded else "not ready until it is there"
            logger.warning("no usable certificate in %s (%s): %s", self._directory, message, state)
        self._complaint = message


def _no_password() -> str:
    raise ValueError("the private key is encrypted; store it without a password")


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The server speaks HTTP/1.1 only; a client that hears nothing may assume HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    # Resumed sessions would outlive the certificate that they were opened with.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context
