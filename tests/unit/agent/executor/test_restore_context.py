"""What a restored worker is handed about its new pod."""

import pytest

from agent.executor.restore.context import RENEWED, renewed


@pytest.mark.parametrize(
    ("expected", "variables"),
    [
        pytest.param({"POD_UID": "1-2"}, {"POD_UID": "1-2"}, id="a-variable-of-its-pod"),
        pytest.param({"DYN_NAMESPACE": ""}, {"DYN_NAMESPACE": ""}, id="empty"),
        pytest.param({}, {"PASSWORD": "secret", "DYN_SNAPSHOT_POLICY": "Require"}, id="no-other"),
    ],
)
def test_variables_that_are_known_are_handed_over(expected, variables):
    assert dict.fromkeys(RENEWED) | expected == renewed(variables)
