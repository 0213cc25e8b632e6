"""``python3 -m dynamo.frontend``: what a graph's Frontend runs where it names no command."""

from dynamo.serve import start


def main() -> None:
    """Run until SIGTERM."""
    start().wait()


if __name__ == "__main__":
    main()
