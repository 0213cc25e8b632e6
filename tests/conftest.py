"""Figures that tests saw, shown at the end of a run: docs/reliability.md quotes them."""

from collections.abc import Callable

import pytest

FIGURES = pytest.StashKey[list[str]]()

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes one figure in words, for the end of the run."""
    seen = request.config.stash.setdefault(FIGURES, [])
    return lambda words: seen.append(f"{request.node.name}: {words}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Each figure on a line of its own."""
    if seen := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in seen:
            terminalreporter.line(line)
