"""POSIX message queues of a pod: what of them is not the worker's alone, or would be lost. Pure."""

from collections.abc import Iterator

from agent.preflight.facts import Tree
from agent.preflight.unsupported import as_text, named
from artifact.queues import MOST_MESSAGES, MOST_QUEUE_BYTES, MOST_QUEUES
from linux.descriptors import Descriptor


def posix_queues(tree: Tree) -> Iterator[str]:
    """Find POSIX message queues that are not the worker's alone, or of which something would be lost."""
    facts = tree.ipc
    for process, descriptor in tree.open_files():
        if descriptor.is_message_queue and (why := _not_kept(descriptor, tree)):
            yield f"{named(process, descriptor)} is the POSIX message queue {as_text(descriptor.target)}{why}"
    for each in facts.posix_queues:
        what = f"the pod has the POSIX message queue /{as_text(each.name)}"
        if facts.is_of_node or facts.is_shared:
            yield f"{what}, which another container may have too"
        elif tree.goes_on:
            yield f"{what}, which is kept only of a worker that ends"
        elif each.is_watched:
            yield f"{what}, of which a process asks to be signalled (mq_notify)"
        elif as_text(each.name) != each.name:
            yield f"{what}, a name that is not UTF-8"
    held, messages = sum(each.held for each in facts.posix_queues), sum(each.messages for each in facts.posix_queues)
    if len(facts.posix_queues) > MOST_QUEUES or held > MOST_QUEUE_BYTES or messages > MOST_MESSAGES:
        words = f"the pod has {len(facts.posix_queues)} POSIX message queues with {messages} messages of {held} bytes"
        yield f"{words}: at most {MOST_QUEUES} with {MOST_MESSAGES} of {MOST_QUEUE_BYTES} are kept"


def _not_kept(descriptor: Descriptor, tree: Tree) -> str | None:
    if descriptor.is_on_its_way:
        return ", and waits in a Unix socket"
    names = {each.name for each in tree.ipc.posix_queues}
    if descriptor.deleted or descriptor.target.removeprefix("/") not in names:  # another may be named "x (deleted)"
        return ", which has been removed"
    return None
