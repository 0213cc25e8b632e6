import stat

import pytest

from agent.seccomp import _main, place


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    return path


def test_a_profile_is_placed_whole_readable_and_alone(source, tmp_path):
    target = tmp_path / "seccomp" / "profiles" / "block-iouring.json"

    assert place(source, target)
    assert source.read_text() == target.read_text()
    assert 0o644 == stat.S_IMODE(target.stat().st_mode)
    assert [target] == list(target.parent.iterdir())


def test_a_profile_in_place_is_left_alone(source, tmp_path):
    target = tmp_path / "p.json"
    place(source, target)
    before = target.stat().st_ino

    assert not place(source, target)
    assert before == target.stat().st_ino


def test_an_older_profile_is_replaced(source, tmp_path):
    target = tmp_path / "p.json"
    target.write_text("{}")

    assert place(source, target)
    assert source.read_text() == target.read_text()


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        pytest.param(2, "usage", (), id="none"),
        pytest.param(1, "was not placed", ("/nonexistent/a", "/nonexistent/b"), id="no-source"),
    ],
)
def test_a_wrong_call_says_so(capsys, code, message, arguments):
    assert code == _main(list(arguments))
    assert message in capsys.readouterr().err


def test_the_command_of_the_init_container(source, tmp_path, capsys):
    target = tmp_path / "p.json"

    assert 0 == _main([str(source), str(target)])
    assert "placed" in capsys.readouterr().out
