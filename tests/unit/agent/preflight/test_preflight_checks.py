"""What is found in a tree of processes, and what is left alone."""

import ipaddress

import pytest

from agent.errors import RefusedError
from agent.preflight import unsupported
from agent.preflight.checks import CHECKS, Finding, findings, refuse
from agent.preflight.facts import NAMESPACES, MemfdProgram, Process, Tree
from agent.preflight.ipc import IpcFacts
from contract.api.states import LASTING, AgentReason
from linux.anonymous import Anonymous
from linux.descriptors import FANOTIFY, INOTIFY, Descriptor
from linux.ipc.mqueue import QueueStatus
from linux.net.sockets import BoundSocket
from linux.net.unix_diag import UnixSocket
from linux.proc import Mount

OVERLAY, DISK = 44, 46
EMPTY_DIR = "/pods/u/volumes/kubernetes.io~empty-dir/scratch"
MOUNTS = (
    Mount("/", "/", "overlay", "overlay", "rw", number=1, device=OVERLAY),
    Mount("/dev/mqueue", "/", "mqueue", "mqueue", "rw", number=2, device=45),
    Mount("/dev/shm", "/", "tmpfs", "shm", "rw", number=3, device=47),
    Mount("/scratch", EMPTY_DIR, "ext4", "/dev/sda", "rw", number=4, device=DISK),
    Mount("/cache", "/pods/u/cache", "ext4", "/dev/sda", "rw", number=5, device=DISK),
    Mount("/data", "/volumes/data", "ext4", "/dev/sdb", "rw", number=6, device=48),
    Mount("/etc/hosts", "/pods/u/etc-hosts", "ext4", "/dev/sda", "rw", number=7, device=DISK),
    Mount("/dev/termination-log", "/pods/u/containers/main/0a", "ext4", "/dev/sda", "rw", number=8, device=DISK),
)
OWN = {kind: f"{kind}:[1]" for kind in NAMESPACES} | {"pid_for_children": "pid:[1]", "pid": "pid:[1]"}


def process(*descriptors, pid=600, name="python3", **fields):
    usual = {"namespaces": OWN}
    return Process(pid, name, descriptors=descriptors, **usual | fields)


def tree(*processes, sockets=(), **fields):
    return Tree((process(pid=599), *processes), OWN, MOUNTS, sockets, frozenset({"/cache"}), **fields)


def confined(label, *, container, profile, **fields):
    """Make a tree of one process, which has this label."""
    return Tree((process(label=label),), OWN, MOUNTS, (), label=container, profile=profile, **fields)


def written(mount, path):
    return Descriptor(5, path, mount=mount, is_writable_file=True)


def bound(address, inode=9):
    return BoundSocket(inode, "TCP", ipaddress.ip_address(address), 8000)


def anonymous(kind, **fields):
    return Descriptor(4, f"anon_inode:[{kind}]", anonymous=Anonymous(kind, **fields))


CONTEXT = "system_u:system_r:container_t:s0"
LONG = "é" * 119
SOCKET = Descriptor(7, "socket:[9]")
UDP = BoundSocket(9, "UDP", ipaddress.ip_address("0.0.0.0"), 5007)
LISTENER = UnixSocket(1, 1, "@queue", waiting=(9,))
OWN_ADDRESSES = frozenset({ipaddress.ip_address("10.1.2.3")})


@pytest.mark.parametrize(
    ("reason", "words", "found"),
    [
        pytest.param(
            AgentReason.CONFINEMENT_LOST,
            f"process 600 (python3) is confined by {CONTEXT}, which it would not be when it is restored",
            confined(CONTEXT, container=CONTEXT, profile=""),
            id="selinux",
        ),
        pytest.param(
            AgentReason.CONFINEMENT_LOST,
            "process 600 (python3) is confined by own, and its container by a-profile: a restore makes them the same",
            confined("own", container="a-profile", profile="a-profile"),
            id="profile-of-its-own",
        ),
        pytest.param(
            AgentReason.CONFINEMENT_LOST,
            "process 600 (python3) is confined by its-own, and its container by nothing: a restore makes them the same",
            confined("its-own", container="", profile=""),
            id="profile-in-a-free-container",
        ),
        pytest.param(
            AgentReason.CONFINEMENT_LOST,
            "process 600 (python3) is not confined, and its container by a-profile: a restore makes them the same",
            confined("", container="a-profile", profile="a-profile"),
            id="freer-than-its-container",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a performance counter",
            tree(process(anonymous("perf_event"))),
            id="performance-counter",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is an eBPF map, program or link",
            tree(process(anonymous("bpf-prog"))),
            id="ebpf",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is fanotify that decides about what is opened (FAN_CLASS_CONTENT)",
            tree(process(Descriptor(4, FANOTIFY, decides=True))),
            id="fanotify-that-decides",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a watch on files of the kernel's, as those of /proc and /sys are",
            tree(process(Descriptor(4, INOTIFY, watches_kernel=True))),
            id="watch-on-the-kernels-files",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a file that signals one thread of a process (F_SETOWN_EX)",
            tree(process(Descriptor(4, "pipe:[9]")), signals_threads=frozenset({(600, 4)})),
            id="signals-a-thread",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a file that signals one thread of a process (F_SETOWN_EX)",
            tree(process(Descriptor(4, "socket:[9]", protocol="TCP")), signals_threads=frozenset({(600, 4)})),
            id="socket-that-signals-a-thread",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is /proc/600/task/601/stat, a file of one thread",
            tree(process(Descriptor(4, "/proc/600/task/600/stat"), Descriptor(4, "/proc/600/task/601/stat"))),
            id="file-of-a-thread",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a file with a lease (F_SETLEASE), which saving it would break "
            "while the worker goes on",
            tree(process(Descriptor(4, "/cache/x", mount=5, is_leased=True)), goes_on=True),
            id="lease-of-a-worker-that-goes-on",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is /mnt/x, a file of a mount that the container does not have "
            "(any more)",
            tree(process(Descriptor(4, "/mnt/x", mount=99))),
            id="unmounted",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is the device /dev/kvm",
            tree(process(Descriptor(4, "/dev/kvm", is_device=True))),
            id="device",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a memfd of huge pages",
            tree(process(Descriptor(4, "/memfd:x (deleted)", is_huge=True))),
            id="huge-memfd",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a pipe that keeps packets apart (O_DIRECT)",
            tree(process(Descriptor(4, "pipe:[9]", is_packet_pipe=True))),
            id="packet-pipe",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "the worker has 129 eventfds that are semaphores or hold more than 32 bits: at most 128 are kept",
            tree(process(*(anonymous("eventfd", identity=number, held=1 << 32) for number in range(129)))),
            id="more-large-counts-than-are-kept",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "a descriptor that waits in descriptor 4 of process 600 (python3) is an eventfd that is a semaphore "
            "(EFD_SEMAPHORE), or holds more than 32 bits",
            tree(on_their_way=((process(), anonymous("eventfd", is_semaphore=True)._replace(is_on_its_way=True)),)),
            id="semaphore-on-its-way",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a timer that wakes the machine (CLOCK_REALTIME_ALARM, "
            "CLOCK_BOOTTIME_ALARM)",
            tree(process(anonymous("timerfd", wakes_machine=True))),
            id="alarm",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a pidfd of a thread",
            tree(process(anonymous("pidfd", process=600, is_of_thread=True)), pids=frozenset({600})),
            id="pidfd-of-a-thread",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a pidfd of a process outside of the worker",
            tree(process(anonymous("pidfd", process=7)), pids=frozenset({600})),
            id="pidfd-of-a-stranger",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is the listener of a seccomp filter",
            tree(process(anonymous("seccomp notify"))),
            id="listener-of-seccomp",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is of the kind mshare",
            tree(process(anonymous("mshare"))),
            id="unknown-kind",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is open only as a path (O_PATH), and no file or folder",
            tree(process(Descriptor(4, "/tmp/sock", is_handle=True))),
            id="handle",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is open only as a path (O_PATH), and no file or folder",
            tree(process(anonymous("eventfd")._replace(is_handle=True))),
            id="handle-of-an-eventfd",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "process 600 (python3) has secret memory (memfd_secret)",
            tree(process(Descriptor(4, "/secretmem (deleted)"))),
            id="secret-memory-that-is-not-mapped",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a trigger at /proc/pressure/memory",
            tree(process(Descriptor(4, "/proc/pressure/memory", is_own_file=True))),
            id="pressure",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "descriptor 4 of process 600 (python3) is a trigger at /sys/fs/cgroup/a/cpu.pressure",
            tree(process(Descriptor(4, "/sys/fs/cgroup/a/cpu.pressure", is_own_file=True))),
            id="pressure-of-a-cgroup",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (python3) has its parent's working folder for its own (CLONE_FS)",
            tree(process(shares_folder=True)),
            id="shared-folder",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (python3) sends signal 10 when it ends, and not SIGCHLD",
            tree(process(exit_signal=10)),
            id="signal-at-the-end",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (python3) is in more groups than CRIU can read",
            tree(process(groups_bytes=4081)),
            id="groups",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (su) stops itself for good when its child is stopped, as it is by a capture and by a restore",
            tree(process(Descriptor(4, "/dev/ptmx", is_device=True), name="su")),
            id="su-with-a-terminal",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (runsvdir) of runit would end its services after a restore, as their folders have other "
            "inodes then",
            tree(process(name="runsvdir")),
            id="runit",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_PROCESS,
            "process 600 (python3) may open 7 more descriptors, and CRIU needs 8 (RLIMIT_NOFILE)",
            tree(process(free_descriptors=7)),
            id="no-descriptors-left",
        ),
        pytest.param(
            AgentReason.INOTIFY_OVERLAY,
            "descriptor 4 of process 600 (python3) watches files of the image by fanotify",
            tree(process(Descriptor(4, "anon_inode:[fanotify]", watches=((OVERLAY, 7),)))),
            id="fanotify",
        ),
        pytest.param(
            AgentReason.TRACED,
            "process 600 (python3) is traced, by process 7 of the node",
            tree(process(tracer=7)),
            id="traced",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) is a UDP socket, and sockets of the pod are in multicast groups: "
            "224.1.1.1",
            tree(process(SOCKET), sockets=(UDP,), multicast_groups=("224.1.1.1",)),
            id="multicast",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) has sent data by a Unix socket that is not accepted yet",
            tree(process(SOCKET, Descriptor(8, "socket:[1]")), unix_sockets=(LISTENER, UnixSocket(9, 1, sent=5))),
            id="sent-before-it-was-accepted",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) is a socket of protocol AF_VSOCK",
            tree(process(Descriptor(7, "socket:[9]", protocol="AF_VSOCK"))),
            id="vsock",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "process 600 (python3) has secret memory (memfd_secret)",
            tree(process(has_secret_memory=True)),
            id="secret-memory",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "process 600 (python3) has its parent's memory for its own (vfork, or CLONE_VM)",
            tree(process(shares_memory=True)),
            id="memory-of-the-parent",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "its processes run 1 programs of 513 MiB from memfds: at most 64 of 512 MiB are kept",
            tree(process(memfd_program=MemfdProgram(5, 513 << 20, "/memfd:x (deleted)"))),
            id="programs-from-memfds-that-are-too-large",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "process 600 (python3) runs /memfd:\\xff (deleted) from a memfd, a name that is not UTF-8",
            tree(process(memfd_program=MemfdProgram(5, 1, "/memfd:\udcff (deleted)"))),
            id="program-from-a-memfd-whose-name-is-no-text",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_MEMORY,
            "descriptor 4 of process 600 (python3) is a memfd that is mapped and sealed against writing",
            tree(process(Descriptor(4, "/memfd:x (deleted)", sealed_inode=8), mapped_memfds=frozenset({8}))),
            id="sealed-and-mapped",
        ),
        pytest.param(
            AgentReason.IO_URING,
            "descriptor 4 of process 600 (python3) is an io_uring",
            tree(process(Descriptor(4, "anon_inode:[io_uring]"))),
            id="io-uring",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has the POSIX message queue /jobs, which another container may have too",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("jobs"),), is_shared=True)),
            id="message-queue-of-others",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has the POSIX message queue /jobs, which another container may have too",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("jobs"),), is_of_node=True)),
            id="message-queue-of-the-node",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has the POSIX message queue /jobs, of which a process asks to be signalled (mq_notify)",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("jobs", is_watched=True),))),
            id="message-queue-that-signals",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has the POSIX message queue /\\xff, a name that is not UTF-8",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("\udcff"),))),
            id="message-queue-whose-name-is-no-text",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has the POSIX message queue /jobs, which is kept only of a worker that ends",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("jobs"),)), goes_on=True),
            id="message-queue-of-a-worker-that-goes-on",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has 2 POSIX message queues with 3 messages of 9000000 bytes: "
            "at most 256 with 65536 of 8388608 are kept",
            tree(
                ipc=IpcFacts(
                    posix_queues=(QueueStatus("a", 8_000_000, messages=2), QueueStatus("b", 1_000_000, messages=1))
                )
            ),
            id="message-queues-that-hold-more-than-is-kept",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "the pod has 1 POSIX message queues with 65537 messages of 0 bytes: "
            "at most 256 with 65536 of 8388608 are kept",
            tree(ipc=IpcFacts(posix_queues=(QueueStatus("a", messages=65_537),))),
            id="message-queues-with-more-messages-than-are-kept",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "descriptor 4 of process 600 (python3) is the POSIX message queue /jobs (deleted), which has been removed",
            tree(process(Descriptor(4, "/jobs (deleted)", is_message_queue=True))),
            id="message-queue-that-was-removed",
        ),
        pytest.param(
            AgentReason.MESSAGE_QUEUE,
            "descriptor 4 of process 600 (python3) is the POSIX message queue /jobs (deleted), which has been removed",
            tree(
                process(Descriptor(4, "/jobs (deleted)", is_message_queue=True, deleted=(1, 2))),
                ipc=IpcFacts(posix_queues=(QueueStatus("jobs (deleted)"),)),
            ),
            id="message-queue-that-was-removed-and-another-of-the-name-that-it-shows",
        ),
        pytest.param(
            AgentReason.PSEUDO_TERMINAL,
            "descriptor 10 of process 600 (sh) is /dev/tty, of a terminal that the worker made",
            tree(process(Descriptor(10, "/dev/tty"), name="sh")),
            id="terminal",
        ),
        pytest.param(
            AgentReason.NESTED_NAMESPACES,
            "process 600 (python3) has its own namespaces: net, user",
            tree(process(namespaces=OWN | {"net": "net:[2]", "user": "user:[2]"})),
            id="namespaces",
        ),
        pytest.param(
            AgentReason.NESTED_NAMESPACES,
            "process 600 (python3) has its own namespaces: pid",
            tree(process(namespaces=OWN | {"pid_for_children": "pid:[2]"})),
            id="pid-namespace-for-children",
        ),
        pytest.param(
            AgentReason.NESTED_NAMESPACES,
            "a child of process 600 (python3) is in a pid namespace of its own",
            tree(process(has_strangers=True)),
            id="child-in-a-pid-namespace",
        ),
        pytest.param(
            AgentReason.NESTED_NAMESPACES,
            "process 600 (python3) has its own namespaces: time",
            tree(process(clocks=("time:[2]", "time:[3]"))),
            id="clocks-for-children",
        ),
        pytest.param(
            AgentReason.THREAD_APART,
            "a thread of process 600 (python3) has for itself: a namespace (net), descriptors",
            tree(process(apart=("a namespace (net)", "descriptors"))),
            id="thread-apart",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SCHEDULING,
            "a thread of process 600 (python3) is scheduled by SCHED_DEADLINE",
            tree(process(policies=frozenset({0, 1, 2, 3, 5, 6}))),
            id="scheduling",
        ),
        pytest.param(
            AgentReason.INOTIFY_OVERLAY,
            "descriptor 4 of process 600 (python3) watches files of the image by inotify",
            tree(process(Descriptor(4, "anon_inode:inotify", watches=((DISK, 7), (OVERLAY, 7))))),
            id="inotify",
        ),
        pytest.param(
            AgentReason.INOTIFY_DELETED,
            "descriptor 4 of process 600 (python3) watches /scratch/x (deleted) by inotify",
            tree(
                process(
                    Descriptor(3, "/scratch/x (deleted)", deleted=(DISK, 7)),
                    Descriptor(4, "anon_inode:inotify", watches=((DISK, 6), (DISK, 7))),
                )
            ),
            id="inotify-of-what-was-deleted",
        ),
        pytest.param(
            AgentReason.VOLUME_WRITTEN,
            "descriptor 5 of process 600 (python3) is open for writing on the volume at /data: /data/journal",
            tree(process(written(6, "/data/journal"))),
            id="volume",
        ),
        pytest.param(
            AgentReason.VOLUME_WRITTEN,
            "process 600 (python3) has a file of the volume at /data mapped for writing: /data/index",
            tree(process(shared_writes=("/data/index", "/dev/shm/x", "/scratch/y"))),
            id="volume-mapped",
        ),
        pytest.param(
            AgentReason.VOLUME_WRITTEN,
            "descriptor 5 of process 600 (python3) is open for writing on the volume at /scratch: /scratch",
            tree(process(written(4, "/scratch"))),
            id="file-of-an-empty-dir",
        ),
        pytest.param(
            AgentReason.VOLUME_WRITTEN,
            "descriptor 5 of process 600 (python3) is open for writing on the volume at /dev/termination-log: "
            "/dev/termination-log",
            tree(process(written(8, "/dev/termination-log")._replace(bytes=6))),
            id="termination-log-with-words",
        ),
        pytest.param(
            AgentReason.VOLUME_WRITTEN,
            "process 600 (python3) has a file of the volume at /cache mapped for writing: /cache",
            tree(process(shared_writes=("/cache",))),
            id="file-of-an-empty-dir-mapped",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) is a netlink socket with messages that were not read",
            tree(process(SOCKET), unread_netlink=frozenset({9})),
            id="unread-netlink",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) is a Unix socket that was bound to /run/x and is at /run/y now",
            tree(process(SOCKET), moved_sockets={9: "was bound to /run/x and is at /run/y now"}),
            id="renamed-unix-socket",
        ),
        pytest.param(
            AgentReason.THREAD_APART,
            "the first thread of process 7 has ended, and others go on",
            tree(process(headless=(7,))),
            id="first-thread-ended",
        ),
        pytest.param(
            AgentReason.MOUNTED_INSIDE,
            "/mnt/x (tmpfs) was mounted in the container after its start",
            tree(made_mounts=(Mount("/mnt/x", "/", "tmpfs", "none", "rw"),)),
            id="mounted-inside",
        ),
        pytest.param(
            AgentReason.UNLINKED_TOO_LARGE,
            "/dev/shm/x (deleted) holds 5 bytes, more than 4 (config.criu.ghostLimit)",
            tree(process(Descriptor(4, "/dev/shm/x (deleted)", unlinked_bytes=5)), unlinked_limit=4),
            id="unlinked",
        ),
        pytest.param(
            AgentReason.UNLINKED_TOO_LARGE,
            "/dev/shm/x (deleted) holds 5 bytes, more than 4 (config.criu.ghostLimit)",
            tree(process(unlinked=(("/dev/shm/x", 5),)), unlinked_limit=4),
            id="unlinked-and-mapped",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "a descriptor that waits in descriptor 7 of process 600 (python3) is a socket of protocol TCP",
            tree(on_their_way=((process(), SOCKET._replace(protocol="TCP", is_on_its_way=True)),)),
            id="connection-that-waits",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "a descriptor that waits in descriptor 4 of process 600 (python3) is of the kind timerfd",
            tree(on_their_way=((process(), anonymous("timerfd")._replace(is_on_its_way=True)),)),
            id="timer-that-waits",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_DESCRIPTOR,
            "in descriptor 7 of process 600 (python3) more descriptors wait than can be seen",
            tree(hiding=((process(), SOCKET),)),
            id="more-wait",
        ),
        pytest.param(
            AgentReason.UNLINKED_FOLDER,
            f"/tmp/{LONG} was deleted, and its name has more than 237 bytes",
            tree(process(Descriptor(3, f"/tmp/{LONG} (deleted)", deleted=(1, 2)))),
            id="long-name-of-a-deleted-file",
        ),
        pytest.param(
            AgentReason.UNLINKED_FOLDER,
            f"/tmp/{LONG} was deleted, and its name has more than 237 bytes",
            tree(process(unlinked=((f"/tmp/{LONG}", 5),))),
            id="long-name-of-a-mapped-and-deleted-file",
        ),
        pytest.param(
            AgentReason.PSEUDO_TERMINAL,
            "descriptor 3 of process 600 (python3) is of a terminal that the worker made, whose other end was closed",
            tree(process(Descriptor(3, "/dev/ptmx")), hung_up=frozenset({(600, 3)})),
            id="terminal-whose-other-end-was-closed",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 7 of process 600 (python3) is a UDP socket that holds back what is sent (UDP_CORK)",
            tree(
                process(SOCKET._replace(protocol="UDP")),
                odd_sockets={(600, 7): "a UDP socket that holds back what is sent (UDP_CORK)"},
            ),
            id="corked-udp",
        ),
        pytest.param(
            AgentReason.UNSUPPORTED_SOCKET,
            "descriptor 8 of process 600 (python3) has a Unix connection that its client closed before it was accepted",
            tree(process(Descriptor(8, "socket:[1]")), unix_sockets=(UnixSocket(1, 1, "@queue", waiting=(0,)),)),
            id="closed-before-it-was-accepted",
        ),
        pytest.param(
            AgentReason.UNLINKED_FOLDER,
            "process 600 (python3) has /tmp/x (deleted), and something else has its name",
            tree(taken_names=("process 600 (python3) has /tmp/x (deleted), and something else has its name",)),
            id="unlinked-folder",
        ),
        pytest.param(
            AgentReason.ADDRESS_BOUND,
            "descriptor 7 of process 600 (python3) is bound to TCP address 10.1.2.3, port 8000",
            tree(process(SOCKET), sockets=(bound("10.1.2.3"),)),
            id="address",
        ),
        pytest.param(
            AgentReason.ADDRESS_BOUND,
            "descriptor 7 of process 600 (python3) is bound to TCP address fd00::1, port 8000",
            tree(process(SOCKET), sockets=(bound("fd00::1"),)),
            id="address-6",
        ),
        pytest.param(
            AgentReason.UNIX_PEER_OUTSIDE,
            "descriptor 7 of process 600 (python3) is connected to a process outside of the worker by Unix socket "
            "/shared/side.sock",
            tree(process(SOCKET), unix_sockets=(UnixSocket(9, 1, peer=10), UnixSocket(10, 1, "/shared/side.sock", 9))),
            id="unix-peer",
        ),
        pytest.param(
            AgentReason.UNIX_PEER_OUTSIDE,
            "descriptor 7 of process 600 (python3) is connected to a process outside of the worker by Unix socket "
            "@accepted",
            tree(process(SOCKET), unix_sockets=(UnixSocket(9, 1, "@accepted", 10), UnixSocket(10, 1, peer=9))),
            id="unix-client",
        ),
        pytest.param(
            AgentReason.UNIX_PEER_OUTSIDE,
            "descriptor 7 of process 600 (python3) is connected to a process outside of the worker by a Unix socket "
            "without a name",
            tree(process(SOCKET), unix_sockets=(UnixSocket(9, 2, peer=10),)),
            id="unix-peer-in-another-network",
        ),
        pytest.param(
            AgentReason.UNIX_PEER_OUTSIDE,
            "descriptor 7 of process 600 (python3) is connected to a process outside of the worker by Unix socket "
            "/shared/side.sock",
            tree(
                process(SOCKET), unix_sockets=(UnixSocket(9, 1), UnixSocket(10, 1, "/shared/side.sock", waiting=(9,)))
            ),
            id="unix-not-accepted",
        ),
    ],
)
def test_what_is_in_the_way(reason, words, found):
    assert [Finding(reason, words)] == findings(found)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(
            tree(process(Descriptor(4, "anon_inode:inotify", watches=((DISK, 7),)))), id="inotify-of-a-volume"
        ),
        pytest.param(
            tree(
                process(SOCKET, Descriptor(8, "socket:[10]")),
                unix_sockets=(UnixSocket(9, 1, peer=10), UnixSocket(10, 1, peer=9)),
            ),
            id="unix-pair",
        ),
        pytest.param(
            tree(process(SOCKET), unix_sockets=(UnixSocket(9, 1, "/run/own.sock", waiting=(77,)),)), id="unix-listener"
        ),
        pytest.param(tree(process(SOCKET), unix_sockets=(UnixSocket(9, 1),)), id="unix-peer-has-ended"),
        pytest.param(
            tree(process(SOCKET), sockets=(bound("::ffff:10.1.2.3"),), own_addresses=OWN_ADDRESSES), id="own-address"
        ),
        pytest.param(tree(process(written(1, "/tmp/x"))), id="root-file-system"),
        pytest.param(tree(process(written(3, "/dev/shm/x"))), id="shared-memory"),
        pytest.param(tree(process(written(4, "/scratch/x"))), id="empty-dir-by-its-place"),
        pytest.param(tree(process(written(5, "/cache/x"))), id="empty-dir-by-the-pod"),
        pytest.param(tree(process(written(8, "/dev/termination-log"))), id="termination-log"),
        pytest.param(
            tree(process(written(4, "/scratch")), writable_mounts=frozenset({"/scratch"})), id="file-said-safe"
        ),
        pytest.param(
            tree(process(Descriptor(5, "/dev/termination-log", mount=8, is_own_file=True, bytes=6))),
            id="termination-log-to-append",
        ),
        pytest.param(tree(process(Descriptor(5, "/data/model", mount=6))), id="volume-read"),
        pytest.param(
            tree(process(written(6, "/data/journal")), writable_mounts=frozenset({"/data"})), id="volume-said-safe"
        ),
        pytest.param(tree(process(SOCKET), sockets=(bound("0.0.0.0"),)), id="any-address"),
        pytest.param(tree(process(SOCKET), sockets=(bound("127.0.0.5"),)), id="loopback"),
        pytest.param(tree(process(SOCKET), sockets=(bound("::"),)), id="any-address-6"),
        pytest.param(tree(process(SOCKET), sockets=(bound("::1"),)), id="loopback-6"),
        pytest.param(tree(process(SOCKET), sockets=(bound("::ffff:127.0.0.1"),)), id="loopback-mapped"),
        pytest.param(tree(process(SOCKET), sockets=(bound("10.1.2.3", inode=8),)), id="socket-of-another-container"),
        pytest.param(tree(process(SOCKET), sockets=(bound("224.0.0.251"),)), id="multicast"),
        pytest.param(tree(process(SOCKET), sockets=(bound("255.255.255.255"),)), id="broadcast"),
        pytest.param(tree(process(Descriptor(4, "/dev/pts/0"))), id="terminal-by-its-name"),
        pytest.param(tree(process(Descriptor(4, "/dev/pts/0", is_device=True))), id="terminal-device"),
        pytest.param(tree(process(Descriptor(4, "/dev/urandom", is_device=True))), id="plain-device"),
        pytest.param(tree(process(Descriptor(4, "/dev/nvidia-uvm", is_device=True))), id="gpu"),
        pytest.param(tree(process(anonymous("eventpoll"))), id="epoll"),
        pytest.param(tree(process(anonymous("eventfd"))), id="eventfd"),
        pytest.param(tree(process(anonymous("eventfd", is_semaphore=True))), id="semaphore"),
        pytest.param(
            tree(
                process(Descriptor(4, "/jobs", is_message_queue=True)),
                ipc=IpcFacts(posix_queues=(QueueStatus("jobs"),)),
            ),
            id="message-queue",
        ),
        pytest.param(
            tree(process(*[anonymous("eventfd", held=1 << 32)] * 129)), id="one-large-count-of-many-processes"
        ),
        pytest.param(tree(process(unlinked=(("/dev/shm/x", 4),)), unlinked_limit=4), id="unlinked-and-small"),
        pytest.param(
            Tree((process(clocks=("time:[2]", "time:[2]")),) * 2, OWN, MOUNTS, ()), id="clocks-of-a-restored-worker"
        ),
        pytest.param(tree(process(anonymous("pidfd", process=600)), pids=frozenset({600})), id="pidfd-of-its-own"),
        pytest.param(tree(process(anonymous("pidfd"))), id="pidfd-of-a-process-that-has-ended"),
        pytest.param(
            tree(process(anonymous("of-a-driver"), Descriptor(5, "/dev/nvidia0", is_device=True))), id="of-a-gpu"
        ),
        pytest.param(tree(process(Descriptor(4, "/proc/pressure/memory"))), id="pressure-that-is-read"),
        pytest.param(tree(process(Descriptor(7, "socket:[9]", protocol="UNIX-STREAM"))), id="unix-socket"),
        pytest.param(tree(process(Descriptor(7, "socket:[9]"))), id="socket-of-an-old-kernel"),
        pytest.param(tree(process(Descriptor(4, "/memfd:x (deleted)", sealed_inode=8))), id="sealed-and-not-mapped"),
        pytest.param(
            tree(process(Descriptor(4, "anon_inode:inotify", watches=((OVERLAY, 7),))), findable=frozenset({7})),
            id="inotify-of-what-criu-finds",
        ),
        pytest.param(confined(CONTEXT, container=CONTEXT, profile="", allow_unconfined=True), id="selinux-and-allowed"),
        pytest.param(confined("a-profile", container="a-profile", profile="a-profile"), id="apparmor"),
        pytest.param(tree(process(SOCKET), sockets=(UDP,)), id="udp-in-no-group"),
        pytest.param(
            tree(process(Descriptor(3, f"/memfd:{LONG} (deleted)", deleted=(1, 2)))), id="long-name-of-memory"
        ),
        pytest.param(tree(process(Descriptor(3, f"/tmp/{LONG[1:]} (deleted)", deleted=(1, 2)))), id="longest-name"),
        pytest.param(
            tree(process(), sockets=(UDP,), multicast_groups=("224.1.1.1",)), id="multicast-of-another-container"
        ),
        pytest.param(
            tree(process(SOCKET, Descriptor(8, "socket:[1]")), unix_sockets=(LISTENER, UnixSocket(9, 1))),
            id="connected-before-it-was-accepted",
        ),
    ],
)
def test_what_is_left_alone(found):
    assert [] == findings(found)


@pytest.mark.parametrize(("lends_calls", "refused"), [(True, 0), (False, 1)], ids=["x86-64", "another-machine"])
def test_only_processes_that_can_be_lent_calls_take_lost_locks_again(monkeypatch, lends_calls, refused):
    monkeypatch.setattr(unsupported, "_LENDS_CALLS", lends_calls)
    words = "process 600 (python3) has a record lock of a file that it has mapped too, which only processes of x86-64"
    found = findings(tree(process(loses_locks=True)))
    assert [AgentReason.UNSUPPORTED_DESCRIPTOR] * refused == [each.reason for each in found]
    assert all(each.words.startswith(words) for each in found)


def test_a_refusal_has_the_first_reason_and_the_words_of_all():
    found = [Finding(AgentReason.IO_URING, "one"), Finding(AgentReason.ADDRESS_BOUND, "two")]
    with pytest.raises(RefusedError, match=r"^one; also address-bound: two$") as refused:
        refuse(found)
    assert AgentReason.IO_URING == refused.value.code


def test_a_long_list_is_cut():
    found = [Finding(AgentReason.IO_URING, str(number)) for number in range(9)]
    with pytest.raises(RefusedError, match=r"io-uring: 4; and 4 more$"):
        refuse(found)


def test_nothing_found_is_no_refusal():
    refuse([])


def test_what_is_found_is_not_tried_again():
    assert {reason for reason, _ in CHECKS} <= LASTING
