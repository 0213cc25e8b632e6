"""What a pod says of weights that are in the files of its model."""

import pytest

from contract.api import keys
from contract.pods.weights import WeightsError, refers_to_weights


def pod(word):
    return {"metadata": {"annotations": {} if word is None else {keys.ANN_WEIGHTS: word}}}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("referenced", True, id="referenced"),
        pytest.param("stored", False, id="stored"),
    ],
)
def test_the_owner_goes_before_the_chart(word, expected):
    assert expected is refers_to_weights(pod(word))


@pytest.mark.parametrize("word", ["", "Referenced", "true"], ids=ascii)
def test_another_word_is_refused(word):
    with pytest.raises(WeightsError, match="set it to referenced or stored"):
        refers_to_weights(pod(word))
