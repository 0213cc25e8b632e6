"""What becomes of each kind of state of a worker, as a closed list; docs/what-can-be-captured.md is made of it.

Each line names a test that shows it, so the list says no more than was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.api.states import Admission, AgentReason

CAPTURES_PAGE: Final = "docs/what-can-be-captured.md"
_KINDS: Final = "tests/node/engine/test_kinds_of_state.py::test_it_is_kept"
_UNKNOWN: Final = "tests/node/engine/test_kinds_of_state.py::test_it_is_refused_and_not_touched"
_LOST: Final = "tests/node/engine/test_kinds_of_state.py::test_it_is_reset"
_PREFLIGHT: Final = "tests/node/engine/test_preflight.py::test_it_is_refused_and_not_touched"


class Fate(StrEnum):
    """What becomes of it."""

    KEPT = "kept"
    RENEWED = "renewed"
    RESET = "reset"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of state."""

    what: str
    fate: Fate
    how: str
    """Kept: what stays different. Renewed, reset: how the worker learns of it. Refused: when it is seen."""
    test: str
    """File and function, relative to the repository's root."""
    reason: AgentReason | Admission | None = None
    """Of a refusal."""


def _kept(what: str, how: str = "", test: str = _KINDS) -> Kind:
    return Kind(what, Fate.KEPT, how, test)


def _refused(
    what: str, reason: AgentReason | Admission, how: str = "before anything is frozen", test: str = ""
) -> Kind:
    return Kind(what, Fate.REFUSED, how, test or _PREFLIGHT, reason)


KINDS: Final = (
    _kept("Processes, threads, their ids, names, sessions and groups; zombies", "ids are those inside the container"),
    _kept(
        "A thousand threads, ten thousand descriptors",
        test="tests/node/engine/test_preflight.py::test_it_takes_little_time",
    ),
    _kept(
        "Processes stopped by SIGSTOP or SIGTSTP",
        "stay stopped until they are continued, 400 of them at most",
        "tests/node/engine/test_stopped_processes.py::test_stopped_processes_stay_stopped",
    ),
    _kept("Signal handlers, ignored, blocked and pending signals"),
    _kept("Memory: private, shared between processes, locked, mapped files, unlinked files that are mapped"),
    _kept("memfd, read and mapped", "a seal against writing does not go with a mapping: see refused"),
    _kept("Limits (rlimits), nice value, scheduling class, OOM score, umask, working folder"),
    _kept(
        "The profile of AppArmor that the runtime gave the container",
        "that of the new container, for every thread",
        test="tests/node/engine/test_apparmor.py::test_a_restored_worker_is_as_confined_as_it_was",
    ),
    _kept("no_new_privs, dropped capabilities, own seccomp filters, dumpable flag, subreaper, parent-death signal"),
    _kept("Pipes and FIFOs with what is in them, their size and flags"),
    _kept(
        "eventfd, epoll, signalfd, inotify, fanotify, pidfd of the worker's processes",
        "an edge (EPOLLET) that was seen is seen once more",
    ),
    _kept(
        "timerfd, timer_create, setitimer, timers of event loops",
        "the time that is left is kept, not the moment",
        "tests/node/engine/test_time.py::test_every_timer_goes_on",
    ),
    _kept(
        "Files, folders and devices (/dev/null, zero, random), shared positions, unlinked files, files of /proc",
        "a file without a name (O_TMPFILE) cannot be given one later",
    ),
    _kept("File locks: flock and POSIX record locks"),
    _kept("POSIX semaphores"),
    _kept(
        "Pseudo-terminals that no process has as its /dev/tty",
        test="tests/node/engine/test_preflight.py::test_what_only_looks_like_it_is_captured",
    ),
    _kept("Unix sockets within the worker: streams, datagrams, listeners, abstract names, descriptors on their way"),
    _kept("Listening TCP sockets, SO_REUSEPORT, options; UDP; netlink"),
    _kept(
        "TCP connections between the worker's own processes, with what is on its way in them",
        "on loopback and on the pod's own address",
        "tests/node/engine/test_connections.py::test_a_connection_within_the_tree_goes_on",
    ),
    _kept(
        "Sockets bound to the pod's own address",
        "follow to the new pod's, with agentMount and one address of each kind",
        "tests/node/engine/test_pod_addresses.py::test_sockets_follow_the_pod",
    ),
    _kept(
        "Files that the worker changed, made or deleted in its image",
        "up to `capture.rootfsLimit`; with holes, owner, mode, times, ACLs, user.* attributes, hard links",
        "tests/node/engine/test_worker_files.py::test_files_of_the_image_are_as_they_were",
    ),
    _kept(
        "Content of emptyDirs, on disk and in memory, and of /dev/shm",
        "up to `capture.emptyDirLimit` each; what the new pod has already stays",
        "tests/node/engine/test_worker_files.py::test_closed_files_of_an_empty_dir_travel",
    ),
    _kept(
        "Device memory of NVIDIA GPUs, CUDA graphs, pinned memory",
        "same model, number and driver",
        "tests/node/engine/test_gpu_workers.py::test_device_state_comes_back_before_the_worker_runs",
    ),
    _kept(
        "CUDA contexts, streams and events, arrays and textures, memory pools, variables of modules, a kernel's heap, "
        "registered host memory",
        "seen on an H200",
        "tests/gpu/test_kinds_on_a_card.py::test_a_kind_of_state_is_kept",
    ),
    _kept(
        "Device memory that processes share: by descriptors (NCCL, symmetric memory), by CUDA IPC; host memory that "
        "the driver made (`cuMemCreate`), shared or not",
        "with device memory outside the image, which is the default; the owner must be of the worker",
        "tests/node/engine/test_shared_device_memory.py::test_processes_share_memory_again",
    ),
    Kind(
        "Hostname, address, /etc/hosts, resolv.conf, service-account token",
        Fate.RENEWED,
        "files are the new pod's; what the worker has read of them is as captured, read it again in a hook",
        "tests/node/workers/test_volume_files.py::test_the_new_pods_files_are_what_the_worker_sees",
    ),
    Kind(
        "What the container runtime and its hooks had written into the image's files when the container started, such "
        "as links to the node's GPU driver and the cache of libraries that names it",
        Fate.RENEWED,
        "the new container's own; once the worker has changed such a file, it is the worker's",
        "tests/node/workers/test_toolkit_pods.py::test_a_worker_that_had_not_used_the_driver_finds_the_nodes_own",
    ),
    Kind(
        "ConfigMap, Secret, projected and downward volumes",
        Fate.RENEWED,
        "the new pod's; a file that is open and differs is a cold start (`volume-file-changed`)",
        "tests/node/workers/test_volume_files.py::test_a_closed_file_may_change_and_an_open_one_may_not",
    ),
    Kind(
        "Random generators: random, OpenSSL, numpy, torch; os.environ",
        Fate.RENEWED,
        "by the SDK; **equal in all replicas without it**",
        "tests/node/engine/test_random_numbers.py::test_replicas_draw_numbers_of_their_own",
    ),
    Kind(
        "Random bytes of the kernel (getrandom, /dev/urandom, uuid4)",
        Fate.RENEWED,
        "differ by themselves",
        "tests/node/engine/test_random_numbers.py::test_what_the_c_library_draws_without_a_system_call_differs",
    ),
    Kind(
        "TCP connections to other pods, containers and hosts",
        Fate.RESET,
        "reading gives the end of the stream; the report lists them; connect again",
        "tests/node/engine/test_connections.py::test_a_connection_to_another_container_of_the_pod_is_closed",
    ),
    Kind(
        "TCP connections that were not accepted yet, such as a probe's",
        Fate.RESET,
        "the client sees a reset and tries again",
        "tests/node/engine/test_connections.py::test_a_probe_on_its_way_fails_no_capture",
    ),
    Kind(
        "Keys in kernel keyrings",
        Fate.RESET,
        "requests fail with ENOKEY; add them again in a hook",
        _LOST,
    ),
    Kind(
        "Timer slack, I/O priority, processor affinity, memory policy (NUMA), personality (`setarch`), mlockall for "
        "memory to come, MLOCK_ONFAULT, merging of memory (PR_SET_MEMORY_MERGE), PR_MCE_KILL, coredump_filter",
        Fate.RESET,
        "the defaults; set them again in a hook",
        _LOST,
    ),
    Kind(
        "What waits to be read: datagrams in a UDP socket, urgent data of TCP, events of inotify; of a datagram in a "
        "Unix socket the sender's name; all datagrams in one that hold an empty one among them",
        Fate.RESET,
        "they are lost; look at files again in a hook",
        _LOST,
    ),
    Kind(
        "Options of sockets but for SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_LINGER, "
        "SO_MARK, SO_PRIORITY, SO_BINDTODEVICE, sizes of buffers, time-outs, filters, IP_TOS, IP_TTL, IP_PKTINFO, "
        "IP_FREEBIND, IPV6_V6ONLY, IPV6_RECVPKTINFO, TCP_NODELAY, TCP_CORK, TCP_KEEP*: so TCP_USER_TIMEOUT, "
        "TCP_FASTOPEN, TCP_CONGESTION, SO_TIMESTAMP, SO_PEEK_OFF, IP_RECVERR, IP_MTU_DISCOVER, UDP_GRO; the program "
        "that shares out connections of SO_REUSEPORT, dnotify (F_NOTIFY)",
        Fate.RESET,
        "the defaults; set them again in a hook",
        _LOST,
    ),
    Kind(
        "The user at the other end of a Unix connection (SO_PEERCRED), where that is another one",
        Fate.RESET,
        "**the restored worker reads its own user**: remember what was read when the connection was accepted",
        _LOST,
    ),
    Kind(
        "A wait with a limit that is under way: nanosleep, poll, epoll_wait, sigtimedwait, SO_RCVTIMEO; not select",
        Fate.RESET,
        "it ends early with EINTR, as by a signal; Python's own functions wait for the rest by themselves",
        _LOST,
    ),
    Kind(
        "Requests of io_submit that wait for a descriptor (IOCB_CMD_POLL)",
        Fate.RESET,
        "they never end, and nothing in /proc shows them beforehand: submit them again in a hook",
        _LOST,
    ),
    Kind(
        "What the kernel counted of a process: processor time, faults, peak of memory, input and output; when it "
        "started",
        Fate.RESET,
        "begins again with the restore, as in a new process: `time.process_time()` goes back",
        _LOST,
    ),
    Kind(
        "Device nodes and sockets that no process has open, in the image or an emptyDir; files in /dev, but "
        "not /dev/shm",
        Fate.RESET,
        "they are not there; make them again in a hook",
        _LOST,
    ),
    Kind(
        "What a mapping shows of a file of the image that was changed in place since: the former content",
        Fate.RESET,
        "the file's content, as on any other file system",
        _LOST,
    ),
    Kind(
        "What a privileged worker set up in its pod: host name, addresses, routes, kernel parameters (sysctl)",
        Fate.RESET,
        "the new pod's own; set them again in a hook",
        _LOST,
    ),
    Kind(
        "Hardening of a process's own: PR_SET_MDWE, sealed mappings (mseal)",
        Fate.RESET,
        "**the restored worker is without it, and nothing in /proc shows it beforehand**: apply it in a hook",
        _LOST,
    ),
    Kind(
        "A Landlock sandbox of the worker's own",
        Fate.RESET,
        "**the restored worker is without it, and nothing in /proc shows it beforehand**: apply it in a hook",
        _LOST,
    ),
    Kind(
        "CLOCK_REALTIME",
        Fate.RESET,
        "the node's: it jumps by the time between capture and restore, as after a suspended laptop",
        "tests/node/engine/test_time.py::test_every_timer_goes_on",
    ),
    Kind(
        "Monotonic clocks of commands executed in the container (exec probes, kubectl exec)",
        Fate.RESET,
        "the node's, while the worker's go on from the capture; [after-a-restore.md](after-a-restore.md#clocks), "
        "[what was tried](decisions/0027-executed-commands-keep-the-nodes-clock.md)",
        "tests/node/engine/test_time.py::test_the_worker_alone_keeps_its_clocks",
    ),
    _refused("io_uring", AgentReason.IO_URING),
    _refused("POSIX message queues", AgentReason.MESSAGE_QUEUE),
    _refused("A pseudo-terminal of the worker's own that is open as /dev/tty", AgentReason.PSEUDO_TERMINAL),
    _refused(
        "A terminal as the container's standard stream (tty: true, stdin: true)",
        AgentReason.TERMINAL,
        test="tests/unit/agent/executor/test_capture_restore_plans.py::test_terminal",
    ),
    _refused(
        "Performance counters, eBPF, userfaultfd, KVM, other devices, huge memfd, pipes of packets (O_DIRECT), eventfd "
        "as a semaphore, timers that wake the machine, pidfd of a thread or of a process outside, listeners of "
        "seccomp, triggers of pressure (PSI), a socket or FIFO opened by O_PATH, and "
        "whatever else has no name",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
        test=_UNKNOWN,
    ),
    _refused(
        "MPTCP, vsock and other protocols; UDP with multicast groups; data in a Unix connection that was not accepted; "
        "unread messages of netlink; a Unix socket whose file was renamed",
        AgentReason.UNSUPPORTED_SOCKET,
        test=_UNKNOWN,
    ),
    _refused("A process that is traced (debuggers, `strace`)", AgentReason.TRACED, test=_UNKNOWN),
    _refused(
        "memfd_secret (mapped or only open), a program from a memfd, a memfd sealed against writing and mapped; "
        "a process with the memory of "
        "its parent (vfork that lasts, CLONE_VM)",
        AgentReason.UNSUPPORTED_MEMORY,
        test=_UNKNOWN,
    ),
    _refused("System V shared memory, semaphores, message queues", AgentReason.SYSV_IPC, test=_UNKNOWN),
    _refused(
        "Namespaces of the worker's own (sandboxes, nested containers), of clocks too", AgentReason.NESTED_NAMESPACES
    ),
    _refused(
        "A thread with descriptors, a working folder or a namespace that the others do not have; a process whose first "
        "thread has ended",
        AgentReason.THREAD_APART,
        test=_UNKNOWN,
    ),
    _refused(
        "Rights that the container's first process lacks (file capabilities, set-user-id programs)",
        AgentReason.IMAGES_WIDER,
        test="tests/node/engine/test_image_rights.py::test_a_program_with_a_capability_is_seen_before_the_freeze",
    ),
    _refused(
        "Confinement by SELinux, by several profiles of AppArmor, or another one than the container's, without "
        "`allowUnconfined`",
        AgentReason.CONFINEMENT_LOST,
        test="tests/unit/agent/preflight/test_preflight_checks.py::test_what_is_in_the_way",
    ),
    _refused(
        "inotify or fanotify on files of the image, outside /etc, /lib/udev, /var/spool", AgentReason.INOTIFY_OVERLAY
    ),
    _refused("inotify on a file or folder that was deleted while it is open", AgentReason.INOTIFY_DELETED),
    _refused("A file open or mapped for writing on a persistent volume or hostPath", AgentReason.VOLUME_WRITTEN),
    _refused("What a privileged worker mounted in its container", AgentReason.MOUNTED_INSIDE, test=_UNKNOWN),
    _refused(
        "A file without a name (deleted, in /dev/shm too) of more than `config.criu.ghostLimit`",
        AgentReason.UNLINKED_TOO_LARGE,
        test="tests/node/engine/test_worker_files.py::test_a_deleted_file_that_is_too_large",
    ),
    _refused(
        "A socket on one of several addresses of the pod, or on a foreign one",
        AgentReason.ADDRESS_BOUND,
        test="tests/node/engine/test_pod_addresses.py::test_one_of_several_addresses_is_refused",
    ),
    _refused(
        "A Unix socket connected to another container or to the node (/dev/log)",
        AgentReason.UNIX_PEER_OUTSIDE,
        test="tests/node/engine/test_preflight.py::test_a_unix_socket_to_another_container",
    ),
    _refused(
        "More than `capture.emptyDirLimit` in an emptyDir or /dev/shm",
        AgentReason.VOLUME_TOO_LARGE,
        test="tests/node/engine/test_worker_files.py::test_too_much_is_refused_with_numbers",
    ),
    _refused(
        "More than `capture.rootfsLimit` of changed files of the image",
        AgentReason.ROOTFS_TOO_LARGE,
        test="tests/node/engine/test_worker_files.py::test_too_much_is_refused_with_numbers",
    ),
    _refused(
        "A file of a ConfigMap that was replaced while the worker has the former one open",
        AgentReason.VOLUME_FILE_REPLACED,
        test="tests/node/engine/test_worker_files.py::test_a_replaced_file_is_refused",
    ),
    _refused(
        "Device memory that the container's memory limit cannot hold",
        AgentReason.MEMORY_LIMIT,
        test="tests/node/engine/test_gpu_workers.py::test_a_limit_that_cannot_hold_the_device_memory",
    ),
    _refused(
        "A driver that hangs nodes or ends workers",
        AgentReason.GPU_DRIVER_DENIED,
        test="tests/node/engine/test_gpu_workers.py::test_a_denied_driver_is_asked_to_capture_nothing",
    ),
    _refused(
        "Managed memory of CUDA (`cudaMallocManaged`)",
        AgentReason.GPU_UNSUPPORTED,
        "by the driver's checkpoint; a worker that was running goes on",
        "tests/gpu/test_kinds_on_a_card.py::test_a_kind_of_state_is_refused",
    ),
    _refused(
        "A CUDA graph that is being captured, with device memory outside the image",
        AgentReason.GPU_BUSY,
        test="tests/node/engine/test_device_memory.py::test_a_graph_that_is_being_captured_is_not_spoiled",
    ),
    _refused(
        "Device memory that several processes share, and host memory that the driver made, with device memory in the "
        "image; memory of a multicast object",
        AgentReason.PROOF_FAILED,
        "by the proof: only the restore shows it",
        "tests/node/engine/test_gpu_workers.py::test_device_state_that_cannot_come_back_is_found_by_the_proof",
    ),
    _refused(
        "Identity of one pod in the environment (name, uid, address, index), without a promise to renew it",
        Admission.PER_POD_IDENTITY,
        "at admission",
        "tests/unit/webhook/test_second_looks.py::test_what_another_webhook_did_is_judged_whatever_the_first_look_did",
    ),
    _refused(
        "hostNetwork, hostPID, shareProcessNamespace, hostUsers: false, sandboxed runtimes",
        Admission.POD_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
    _refused(
        "Windows",
        Admission.OS_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
    _refused(
        "MIG devices, accelerators of other vendors",
        Admission.ACCELERATOR_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
)

_INTRO: Final = (
    "A worker is captured whole or not at all. This is the closed list of what becomes of its state:\n\n"
    "- **kept**: in the restored worker it is as it was;\n"
    "- **renewed**: it is the new pod's, or new;\n"
    "- **reset**: it is not there any more, and the worker can see that;\n"
    "- **refused**: a worker that has it is not captured, or its pod is left alone. It starts cold, with the code as "
    "the reason, and nothing was touched.\n\n"
    "`snapshotctl preflight POD` looks at a running worker and says which refusals it would meet "
    "([cli.md](cli.md#preflight)).\n"
    "What to do about each code: [reasons.md](reasons.md). How a worker acts on what was renewed or reset: "
    "[after-a-restore.md](after-a-restore.md).\n"
    "What CRIU refuses beyond this list ends as `dump-failed`, or is found by the proof as `proof-failed`, with CRIU's "
    "words: please report it, a check is missing then."
)
_TITLES: Final = {
    Fate.KEPT: "but",
    Fate.RENEWED: "how",
    Fate.RESET: "how the worker learns of it",
    Fate.REFUSED: "seen",
}


def captures_text() -> str:
    """Return the Markdown of the page."""
    note = "<!-- Generated by `python -m contract` from contract/remedies/captures.py; do not edit. -->"
    return "\n\n".join([note, "# What can be captured", _INTRO, *map(_section, Fate)]) + "\n"


def _section(fate: Fate) -> str:
    rows = [_row(kind) for kind in KINDS if kind.fate == fate]
    code = " | code" if fate == Fate.REFUSED else ""
    rule = "|---" if fate == Fate.REFUSED else ""
    head = (f"## {fate.value.capitalize()}", "", f"| what{code} | {_TITLES[fate]} | test |", f"|---{rule}|---|---|")
    return "\n".join((*head, *rows))


def _row(kind: Kind) -> str:
    code = ""
    if kind.reason is not None:
        code = f" | [`{kind.reason.value}`](reasons.md#{kind.reason.value})"
    return f"| {kind.what}{code} | {kind.how} | `{kind.test.removeprefix('tests/')}` |"
