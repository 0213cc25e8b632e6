"""What all parts of a manifest have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

FileName = Annotated[str, Field(pattern=r"^[^/\x00]+$", max_length=255)]
"""A file of the artifact: directly in its directory."""
Path = Annotated[str, Field(pattern=r"^/")]
Pid = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """A block of the manifest: immutable, strict, with keys in camelCase; keys of later releases are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True)
