"""``python3 -m artifact verify|remove ...``: what the controller's storage Jobs run."""

import sys
from typing import Final

USAGE: Final = "usage: python3 -m artifact verify|remove BASE ID [VERSION]"


def main(arguments: list[str]) -> int:
    """Run one command; the exit code is its own, or 2 for wrong usage."""
    # Each in its turn: removing must work in an image without blake3, which only verifying needs.
    match arguments:
        case ["verify", *rest]:
            from artifact import verify  # noqa: PLC0415 - see above

            return verify.main(rest)
        case ["remove", *rest]:
            from artifact import remove  # noqa: PLC0415 - see above

            return remove.main(rest)
    sys.stderr.write(f"{USAGE}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
