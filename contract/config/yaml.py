"""YAML that others wrote, parsed so that whatever it holds ends in a value or in one kind of error.

The parser in C reads a rendered configuration in a tenth of the time of the other, but builds nested values by
recursion without a bound: some ten thousand brackets would end the process. So a first pass looks at the depth alone.
"""

from typing import Any, Final

import yaml

MOST_NESTING: Final = 100
"""Levels; the deepest of ours, an affinity within the values, has about twelve."""
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING: Final = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_CLOSING: Final = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def load_yaml(text: str | bytes) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value of one document.

    Raises:
        yaml.YAMLError: the text is no YAML, is nested too deeply, or holds a date, number or letter that cannot be.
    """
    try:
        _check_depth(text)
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
    except (ValueError, OverflowError) as error:  # the 99th of a month, a number of 5,000 digits, half a surrogate
        raise yaml.YAMLError(str(error)) from error


def _check_depth(text: str | bytes) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
        if depth > MOST_NESTING:
            raise yaml.YAMLError(f"nested deeper than {MOST_NESTING} levels")
