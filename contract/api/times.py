"""Times as Kubernetes writes them: RFC 3339 in UTC, seconds for ``Time``, microseconds for ``MicroTime``."""

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """Return *moment* as a ``Time``, for example ``2026-01-31T10:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """Return *moment* as a ``MicroTime``, for example ``2026-01-31T10:00:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Parse the moment that *text* names.

    Raises:
        ValueError: *text* is not RFC 3339 with a zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as 2026-01-31T10:00:00Z")
    return moment.astimezone(UTC)


def parsed_time(text: object) -> datetime | None:
    """Return the same, or None if there is no time or it is unreadable: the status may have another writer."""
    try:
        return parse_time(str(text)) if text else None
    except ValueError:
        return None
