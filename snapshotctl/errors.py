"""How a command ends when it cannot do what it was asked: an error with a message for people, and an exit status."""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_FAILED: Final = 1
EXIT_UNREADABLE: Final = 2
EXIT_COLD: Final = 3
EXIT_INTERRUPTED: Final = 130


class UserError(Exception):
    """Something that the caller can put right; the message says how."""

    exit_status: ClassVar[int] = EXIT_FAILED


class InputError(UserError):
    """The input cannot be read; the message names file, document and field."""

    exit_status: ClassVar[int] = EXIT_UNREADABLE
