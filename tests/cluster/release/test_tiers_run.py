"""Tiers are run as processes of their own and added up: small suites in place of the real ones."""

import pytest

from tests import tiers


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Two small tiers in place of the real ones."""
    (tmp_path / "test_good.py").write_text("import pytest\ndef test_a(): pass\n@pytest.mark.skip\ndef test_b(): pass\n")
    (tmp_path / "test_bad.py").write_text("def test_c(): assert False\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    monkeypatch.setattr(tiers, "FOLDERS", {"good": ("test_good.py",), "bad": ("test_bad.py",)})


@pytest.mark.parametrize(
    ("last", "arguments"),
    [
        pytest.param("1 passed, 1 failed, 1 skipped", ["good", "bad", "--", "-q"], id="one-after-another"),
        pytest.param(
            "1 passed, 1 failed, 0 skipped",
            ["good+bad", "--", "-q", "-k", "test_a or test_c"],
            id="side-by-side-and-selected",
        ),
    ],
)
def test_real_tiers_are_run_and_added_up(suite, capfd, last, arguments):
    assert 1 == tiers.main([*arguments, "-p", "no:cacheprovider"])
    assert last == capfd.readouterr().out.splitlines()[-1]
