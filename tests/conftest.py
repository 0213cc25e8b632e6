"""What all tiers share: patience of property tests, and the figures that tests saw."""

import gc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of a property: neither one slow example nor slow generation fails a test.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in each run: a suite that passed passes again. `make explore` looks for new ones.
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True)
settings.load_profile("steady")

FIGURE = "figure"

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note one figure in words, for the end of the run; docs/reliability.md quotes them."""
    # A property of the test travels with its report, also from the worker processes of pytest-xdist.
    return lambda words: request.node.user_properties.append((FIGURE, f"{request.node.name}: {words}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each figure on a line of its own."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    ends = [report for report in reports if getattr(report, "when", None) == "teardown"]
    if seen := [words for report in ends for key, words in report.user_properties if key == FIGURE]:
        terminalreporter.section("figures")
        for line in seen:
            terminalreporter.line(line)


def pytest_collection_finish() -> None:
    """Keep the collector away from what lives to the end: modules and thousands of items."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
