"""A kubeconfig that is of no use is said to be so in words, with what to do."""

import pytest

from kube.errors import ConfigError
from kube.login import contexts, login

KNOWN = """\
apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: c, cluster: {server: https://127.0.0.1:1}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: prod, context: {cluster: c, user: u, namespace: my-team}}
- {name: dev, context: {cluster: c, user: u}}
"""


async def test_a_kubeconfig_is_read(tmp_path):
    path = tmp_path / "config"
    path.write_text(KNOWN)

    found = await login(str(path))

    assert ("https://127.0.0.1:1", "my-team") == (found.server, found.namespace)


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        pytest.param(None, None, "there is no such file", id="missing"),
        pytest.param("", None, "is no kubeconfig", id="empty"),
        pytest.param("just words", None, "is no kubeconfig", id="text"),
        pytest.param("[1, 2]", None, "is no kubeconfig", id="list"),
        pytest.param("a: [", None, "not YAML", id="no-yaml"),
        pytest.param("contexts: 3", None, "is no kubeconfig", id="odd-contexts"),
        pytest.param(KNOWN, "nope", "no context nope; it has dev, prod", id="no-such-context"),
        pytest.param(KNOWN.replace("user: u,", "user: x,"), None, "lacks a part", id="no-such-user"),
    ],
)
async def test_a_kubeconfig_of_no_use(tmp_path, capsys, caplog, content, context, words):
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigError) as raised:
        await login(str(path), context)

    assert words in str(raised.value)
    assert "no usable cluster configuration in" in str(raised.value)
    assert ([], "") == (caplog.messages, capsys.readouterr().err)


async def test_one_of_several_files_is_enough(tmp_path):
    path = tmp_path / "config"
    path.write_text(KNOWN)

    found = await login(f"{tmp_path}/missing:{path}")

    assert "my-team" == found.namespace


def test_a_missing_kubeconfig_has_no_contexts_and_says_nothing(tmp_path, caplog):
    """Shells ask for them to complete a word."""
    assert [] == contexts(str(tmp_path / "missing"))
    assert [] == caplog.messages
