import hashlib

import pytest

from contract.api.identity import identity_hash

QWEN = {"model": "Qwen/Qwen3-0.6B", "backendFramework": "vllm", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("expected", "identity"),
    [
        pytest.param(
            "3bff874d069f0ed5",
            QWEN | {"tensorParallelSize": 1, "pipelineParallelSize": 1, "maxModelLen": 4096},
            id="qwen-4096",
        ),
        pytest.param("3bff874d069f0ed5", QWEN | {"maxModelLen": 4096}, id="sizes-default-to-one"),
        pytest.param(
            "3bff874d069f0ed5", QWEN | {"tensorParallelSize": 0, "maxModelLen": 4096}, id="zero-counts-as-one"
        ),
        pytest.param("4da999bc6c673b97", QWEN | {"maxModelLen": 2048}, id="qwen-2048"),
        pytest.param("96429b2725761a09", {"model": "meta-llama/Llama-2-7b-hf", "backendFramework": "vllm"}, id="llama"),
    ],
)
def test_known_hashes(expected, identity):
    assert expected == identity_hash(identity)


def test_go_escapes_what_is_special_to_html():
    """Go writes these five characters as escapes, so the hashed bytes must hold them."""
    text = (
        '{"model":"a\\u003cb\\u003e\\u0026\\u2028\\u2029é","backendFramework":"vllm",'
        '"tensorParallelSize":1,"pipelineParallelSize":1}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert expected == identity_hash({"model": "a<b>&\u2028\u2029é", "backendFramework": "vllm"})


def test_order_of_keys_does_not_matter():
    one = {"extraParameters": {"b": "2", "a": "1"}, **QWEN}
    two = {**dict(reversed(QWEN.items())), "extraParameters": {"a": "1", "b": "2"}}
    assert identity_hash(one) == identity_hash(two)


@pytest.mark.parametrize("empty", [{}, None, ""], ids=["map", "null", "text"])
def test_empty_fields_are_left_out(empty):
    assert identity_hash(QWEN) == identity_hash(QWEN | {"extraParameters": empty, "dynamoVersion": ""})
