"""What a node says of its processors."""

import pytest

from agent.container.inspection import node_facts

FLAGS = "fpu sse2 avx2 amx_tile " + "pretended " * 300
ONE = f"processor\t: {{number}}\nmodel name\t: Some  Processor @ 2 GHz\nflags\t\t: {FLAGS}\nbugs\t\t: none\n\n"


@pytest.mark.parametrize("processors", [pytest.param(1, id="one"), pytest.param(192, id="many")])
def test_instructions_and_model_are_those_of_the_first_processor(tmp_path, processors):
    (tmp_path / "cpuinfo").write_text("".join(ONE.format(number=number) for number in range(processors)))
    found = node_facts("4.2.1", tmp_path)
    assert {"sse2", "avx2", "amx_tile"} == found.cpu_flags
    assert "Some Processor @ 2 GHz" == found.cpu_model
