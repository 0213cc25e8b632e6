"""What is compared before a restore is a closed list, and a bypass names only what may be bypassed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api.reports import read_report
from contract.config.values import ValuesError, load_values
from contract.nodes.compatibility import BYPASSABLE, GATES, BypassError, bypass_of, read_bypass
from contract.nodes.node_facts import read_source
from contract.remedies.compatibility import compatibility_text


def test_every_check_has_its_row():
    rows = [line for line in compatibility_text().splitlines() if line.startswith("| [`")]
    assert [f"| [`{gate.reason}`]" for gate in GATES] == [row.partition("(")[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", set(), id="none"),
        pytest.param("cpu-mismatch", {"cpu-mismatch"}, id="one"),
        pytest.param(" cpu-mismatch, kernel-mismatch ,", {"cpu-mismatch", "kernel-mismatch"}, id="spaces"),
    ],
)
def test_a_list_of_ids(text, expected):
    assert expected == read_bypass(text)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        pytest.param("cpu", "no check 'cpu'", id="unknown"),
        pytest.param("*", "no check", id="no-wildcard"),
        pytest.param("restore-failed", "no check", id="another-reason"),
        pytest.param("wider-rights", "wider-rights cannot be bypassed: it would bring in rights", id="rights"),
        pytest.param("criu-mismatch", "state would be lost", id="corrupts"),
        pytest.param("x" * 5000, "no check", id="long"),
    ],
)
def test_what_is_no_bypass_is_refused_with_those_that_are(word, why):
    with pytest.raises(BypassError) as refused:
        read_bypass(f"cpu-mismatch,{word}")
    with pytest.raises(ValuesError) as in_values:
        load_values(f"config: {{restore: {{bypass: [cpu-mismatch, '{word}']}}}}")
    for said in (str(refused.value), *in_values.value.problems):
        assert why in said
        assert all(reason in said for reason in BYPASSABLE)
        assert len(said) < 1024
    assert in_values.value.problems[0].startswith("config.restore.bypass[1]: ")


def test_rights_and_corruption_are_never_bypassed():
    fixed = {gate.reason for gate in GATES if not gate.bypass}
    assert {"wider-rights", "mounts-missing", "criu-mismatch", "gpu-driver-denied", "gpu-mismatch"} <= fixed


@pytest.mark.parametrize("reason", BYPASSABLE)
def test_each_can_be_named_in_values(reason):
    assert [reason] == load_values(f"config: {{restore: {{bypass: [{reason}]}}}}").config.restore.bypass
    assert reason == bypass_of(reason)


@pytest.mark.parametrize(
    ("bypassed", "expected"),
    [
        pytest.param('["cpu-mismatch"]', ("cpu-mismatch",), id="one"),
        pytest.param('["wider-rights", "x", 7, null]', (), id="none-of-them"),
        pytest.param('"cpu-mismatch"', (), id="no-list"),
    ],
)
def test_a_report_names_only_what_can_be_bypassed(bypassed, expected):
    report = read_report(f'{{"outcome": "restored", "container": "main", "bypassed": {bypassed}}}')
    assert report is not None
    assert expected == report.bypassed


SOURCE = {
    "architecture": "amd64",
    "kernel": "6.1.0-13-amd64",
    "criu": "4.2.1",
    "cpuModel": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    "cpuFlags": "avx avx2 sse4_2",
    "gpuModels": ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"],
    "gpuDriver": "580.159.04",
    "imageDigest": f"sha256:{'a' * 64}",
}


def test_what_it_was_taken_on_is_read_back():
    source = read_source(SOURCE)
    assert source is not None
    assert SOURCE == source.document()
    assert {"avx", "avx2", "sse4_2"} == source.facts.cpu_flags


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="no-object"),
        pytest.param(SOURCE | {"kernel": 6}, id="number-for-text"),
        pytest.param(SOURCE | {"cpuModel": "x" * 129}, id="too-long"),
        pytest.param(SOURCE | {"cpuModel": "a\nb"}, id="two-lines"),
        pytest.param(SOURCE | {"cpuFlags": ["avx"]}, id="list-for-text"),
        pytest.param(SOURCE | {"gpuModels": ["x"] * 65}, id="too-many-gpus"),
        pytest.param(SOURCE | {"gpuModels": [{}]}, id="gpu-no-text"),
        pytest.param(SOURCE | {"imageDigest": "sha256:x"}, id="no-digest"),
    ],
)
def test_one_bad_field_and_no_source_is_believed(found):
    assert read_source(found) is None


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.sampled_from([*SOURCE]), inner)
    )
)
def test_no_object_breaks_it(found):
    source = read_source(found)
    assert source is None or source == read_source(source.document())
