"""``python -m cluster``."""

from cluster.cli import cli

if __name__ == "__main__":
    cli(prog_name="python -m cluster")
