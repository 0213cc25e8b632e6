"""The forms of texts that users write, and what to write where one is not of its form.

A pattern by itself is no remedy: who wrote ``5 minutes`` for a duration learns nothing from a regular expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME: Final = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
NAME_OR_NONE: Final = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$"
LABEL_KEY: Final = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$"
ENVIRONMENT_NAME: Final = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
BYTES: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
AMOUNT: Final = r"^[0-9]*\.?[0-9]+(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]+)?$"
DURATION: Final = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
ABSOLUTE_PATH: Final = r"^(/[^/]+)+$"
PATH_OR_NONE: Final = r"^(/[^/]+)*$"
PATH_WITHIN: Final = r"^[^/]([^.]|\.[^.])*$"
REPOSITORY: Final = r"^([^\s:/]+(:[0-9]+)?(/[^\s:/]+)*/?)?$"
IMAGE: Final = r"^\S+$"
IMAGE_OR_NONE: Final = r"^\S*$"
DRIVER_VERSIONS: Final = r"^[0-9]+(\.[0-9]+)*(\.\*)?$"
PUBLIC_REPORT: Final = r"^([-.\w]+/[-.\w]+#[0-9]+|https://\S+)$"
URL_PATH: Final = r"^/[!-~]*$"
HEADER_NAME: Final = r"^[A-Za-z0-9-]+$"
HEADER_VALUE: Final = r"^[ -~]*$"
SHA256: Final = r"^[0-9a-f]{64}$"
NO_NUL: Final = r"^[^\x00]*$"

_NAMES: Final = "write lower-case letters, digits, - and ., with a letter or digit at both ends"
_PATHS: Final = "write it with / at the beginning and none at the end, such as /var/lib/models"
_IMAGES: Final = "write it without spaces, such as registry.example/team/worker:1"
REMEDIES: Final[Mapping[str, str]] = {
    LABEL: "write lower-case letters, digits and -, with a letter or digit at both ends",
    NAME: _NAMES,
    NAME_OR_NONE: _NAMES,
    LABEL_KEY: "write a key as Kubernetes has them, such as nvidia.com/gpu",
    ENVIRONMENT_NAME: "write letters, digits, _, - and ., and no digit first",
    BYTES: "write a number with a unit, such as 512Mi or 100Gi",
    AMOUNT: "write an amount as Kubernetes does, such as 500m, 2 or 4Gi",
    DURATION: "write hours, minutes and seconds in this order, such as 90s, 30m or 1h30m",
    ABSOLUTE_PATH: _PATHS,
    PATH_OR_NONE: _PATHS,
    PATH_WITHIN: "write a path below kubelet's folder of profiles, without / at the beginning and without ..",
    REPOSITORY: "write it without https:// and without a tag, which is another value, such as registry.example/agent",
    IMAGE: _IMAGES,
    IMAGE_OR_NONE: _IMAGES,
    DRIVER_VERSIONS: "write a version, or its beginning with .*, such as 580.95.05 or 580.*",
    PUBLIC_REPORT: "name a public report as owner/repository#number or https://...",
    URL_PATH: "write it with / at the beginning and without spaces, such as /v1/models",
    HEADER_NAME: "write letters, digits and -",
    HEADER_VALUE: "write it in ASCII and in one line",
    SHA256: "write 64 hexadecimal digits, as sha256sum prints them",
    NO_NUL: "write it without NUL bytes",
}
"""Pattern -> what to write."""
