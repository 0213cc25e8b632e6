"""What all tiers share: patience of property tests, and the figures that tests saw."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of a property: neither one slow example nor slow generation fails a test.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in each run: a suite that passed passes again. `make explore` looks for new ones.
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True)
settings.load_profile("steady")

FIGURES = pytest.StashKey[list[str]]()

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note one figure in words, for the end of the run; docs/reliability.md quotes them."""
    seen = request.config.stash.setdefault(FIGURES, [])
    return lambda words: seen.append(f"{request.node.name}: {words}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Each figure on a line of its own."""
    if seen := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in seen:
            terminalreporter.line(line)
