"""Gives the threads in criu's images a profile of AppArmor, which criu then has each of them change to.

Numbers of fields are those of criu's ``images/core.proto`` and ``creds.proto``.
"""

from agent import protobuf
from agent.criu.images.files import core_images, read_image, replace_image
from agent.errors import CriuError
from contract.api.states import AgentReason

_THREAD, _CREDENTIALS, _LABEL = 5, 10, 15


def write_profile(directory: int, profile: str) -> None:
    """Write a profile into the image of each thread; the directory must be the agent's own.

    Raises:
        CriuError: an image cannot be read.
    """
    for _, name in list(core_images(directory)):
        try:
            changed = with_profile(read_image(directory, name), profile)
        except ValueError as error:
            raise CriuError(AgentReason.RESTORE_FAILED, f"{name} cannot be read: {error}") from error
        replace_image(directory, name, changed)


def with_profile(core: bytes, profile: str) -> bytes:
    """Return the image of a thread with this profile; one without credentials, a zombie's, as it is. Pure.

    Raises:
        ValueError: it is no image.
    """
    text, end = protobuf.message(core)
    fields = protobuf.parse(text)
    for thread in protobuf.embedded(fields, _THREAD):
        for credentials in protobuf.embedded(own := protobuf.parse(thread), _CREDENTIALS):
            confined = protobuf.replaced(protobuf.parse(credentials), {_LABEL: profile.encode()})
            own = protobuf.replaced(own, {_CREDENTIALS: protobuf.encode(confined)})
            fields = protobuf.replaced(fields, {_THREAD: protobuf.encode(own)})
    return core[: protobuf.MAGIC] + protobuf.framed(protobuf.encode(fields)) + core[end:]
