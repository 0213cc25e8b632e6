import pytest

from tests import tiers
from tests.tiers import Result, closing_of, status_of, summary


@pytest.mark.parametrize(
    ("expected", "line"),
    [
        pytest.param(True, "739 passed in 13.42s\n", id="quiet"),
        pytest.param(True, "======= 1 failed, 2 passed, 3 skipped in 61.11s (0:01:01) ======\n", id="ruled"),
        pytest.param(True, "===== no tests ran in 0.01s =====\n", id="none"),
        pytest.param(False, "test_x: 5 passed quickly\n", id="a-tests-own-words"),
        pytest.param(False, "FAILED tests/unit/x.py::test_y\n", id="failure"),
    ],
)
def test_the_closing_line(expected, line):
    assert expected == (closing_of(line) is not None)


def result(closing, status=0, tier="unit", seconds=1.0, **fields):
    return Result(tier, status, seconds, closing, **fields)


BESIDE = {"status": 1, "tier": "node", "failed": ("tests/node/x.py::test_y",)}


@pytest.mark.parametrize(
    ("status", "last", "results"),
    [
        pytest.param(
            0,
            "5 passed, 0 failed, 1 skipped",
            [result("2 passed in 1s"), result("3 passed, 1 skipped in 1s")],
            id="sum",
        ),
        pytest.param(
            1,
            "4 passed, 3 failed, 0 skipped",
            [result("2 passed, 1 failed, 2 errors in 1s", 1), result("2 passed in 1s")],
            id="errors-are-failures",
        ),
        pytest.param(
            0,
            "2 passed, 0 failed, 0 skipped",
            [result("no tests ran in 0s", 5), result("2 passed in 1s")],
            id="one-empty",
        ),
        pytest.param(5, "0 passed, 0 failed, 0 skipped", [result("no tests ran in 0s", 5)], id="all-empty"),
        pytest.param(-9, "2 passed, 1 failed, 0 skipped", [result("2 passed in 1s"), result(None, -9)], id="killed"),
        pytest.param(
            0,
            "4 passed, 0 failed, 0 skipped",
            [result("3 passed, 1 failed in 1s", again=result("1 passed in 1s"), **BESIDE)],
            id="passed-alone",
        ),
        pytest.param(
            1,
            "3 passed, 1 failed, 0 skipped",
            [result("3 passed, 1 failed in 1s", again=result("1 failed in 1s", 1), **BESIDE)],
            id="failed-alone-too",
        ),
        pytest.param(
            1,
            "3 passed, 1 failed, 0 skipped",
            [result("3 passed, 1 failed in 1s", again=result("no tests ran in 1s", 5), **BESIDE)],
            id="not-run-alone",
        ),
        pytest.param(3, "2 passed, 1 failed, 0 skipped", [result("2 passed in 1s", 3)], id="failed-without-a-failure"),
    ],
)
def test_all_tiers_end_in_one_line_and_one_status(status, last, results):
    assert status == status_of(results)
    assert last == summary(results)[-1]


def test_each_tier_says_what_it_cost():
    lines = summary([result("2 passed in 1s", seconds=61.4), result("1 passed in 1s", tier="node", seconds=7.0)])

    assert ["tier unit: 61 s, exit status 0", "tier node: 7 s, exit status 0"] == lines[:-1]


def test_what_passed_only_alone_is_named():
    (line, _) = summary([result("3 passed, 1 failed in 9s", again=result("=== 1 passed in 1s ===\n"), **BESIDE)])

    assert "tier node: 1 s, exit status 1; alone, 1 passed in 1s, of tests/node/x.py::test_y" == line


def test_what_fails_beside_another_tier_is_run_again_alone(tmp_path, monkeypatch, capfd):
    """The first run of the test fails, the second passes: as one that ran out of time beside another tier."""
    ran = tmp_path / "ran"
    body = f"import pathlib\n\n\ndef test_late():\n    p = pathlib.Path({str(ran)!r})\n    first = not p.exists()\n"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(f"{body}    p.touch()\n    assert not first\n")
    (tmp_path / "tests/test_b.py").write_text("def test_fine():\n    pass\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    monkeypatch.setattr(tiers, "FOLDERS", {"cluster": ("tests/test_a.py",), "node": ("tests/test_b.py",)})
    assert 0 == tiers.main(["cluster+node", "--", "-rf", "-p", "no:cacheprovider"])
    out = capfd.readouterr().out
    assert "exit status 1; alone, " in out
    assert out.endswith("2 passed, 0 failed, 0 skipped\n")


def test_what_stopped_early_is_not_run_again(tmp_path, monkeypatch, capfd):
    """Else the tests that were never run would count as passed."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_bad():\n    assert False\n\n\ndef test_never():\n    pass\n")
    (tmp_path / "tests/test_b.py").write_text("def test_fine():\n    pass\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    monkeypatch.setattr(tiers, "FOLDERS", {"cluster": ("tests/test_a.py",), "node": ("tests/test_b.py",)})
    assert 1 == tiers.main(["cluster+node", "--", "-x", "-rf", "-p", "no:cacheprovider"])
    assert "alone" not in capfd.readouterr().out


LATE = """import gc


class Leak:
    def __del__(self):
        raise RuntimeError("left open")


def pytest_sessionfinish():
    leak = Leak()
    leak.itself = leak
"""
"""A conftest.py that leaves behind what only the last garbage collection finds."""


UNRAISABLE = "error::pytest.PytestUnraisableExceptionWarning"


def test_the_summary_repeats_why_a_tier_failed(tmp_path, monkeypatch, capfd):
    (tmp_path / "tests/a").mkdir(parents=True)
    (tmp_path / "tests/a/conftest.py").write_text(LATE)
    (tmp_path / "tests/a/test_a.py").write_text("def test_fine():\n    pass\n")
    (tmp_path / "tests/test_b.py").write_text("def test_bad():\n    assert 2 == 3, 'three'\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    monkeypatch.setattr(tiers, "FOLDERS", {"cluster": ("tests/a",), "node": ("tests/test_b.py",)})
    assert 1 == tiers.main(["cluster+node", "--", "-rf", "-p", "no:cacheprovider", "-W", UNRAISABLE])
    _, _, end = capfd.readouterr().out.rpartition("[node alone] ")
    assert "RuntimeError: left open" in end
    assert "FAILED tests/test_b.py::test_bad - AssertionError: three" in end


def test_an_unknown_tier_is_named(capsys):
    assert 2 == tiers.main(["unit", "gpu"])
    assert "unknown tier gpu; known: unit, cluster, engine, node" in capsys.readouterr().err
