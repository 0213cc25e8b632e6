import tomllib
from pathlib import Path

import pytest

from contract.__main__ import generated
from contract.crds.checkpoint import DynamoCheckpoint
from contract.crds.generate import structural_schema
from contract.crds.graph import DynamoGraphDeployment
from contract.version import VERSION

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in generated()])
def test_generated_files_are_committed_as_generated(path):
    assert generated()[path] == path.read_text(), "run: python -m contract"


def test_the_package_has_the_version_that_images_and_chart_use():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert VERSION == project["version"]


def parts(schema, path=""):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], f"{path}[]")


@pytest.mark.parametrize("model", [DynamoCheckpoint, DynamoGraphDeployment])
def test_the_schema_is_structural(model):
    """Every part has a type (or is int-or-string), and nothing that a structural schema may not hold."""
    for path, part in parts(structural_schema(model)):
        assert "type" in part or part.get("x-kubernetes-int-or-string"), path
        assert not {"$ref", "$defs", "anyOf", "title", "const"} & part.keys(), path
        assert "default" not in part or part["default"] is not None, path
