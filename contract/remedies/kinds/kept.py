"""What is in the restored worker as it was."""

from __future__ import annotations

from typing import Final

from contract.remedies.kinds.kind import Fate, Kind

_KINDS: Final = "tests/node/engine/state/test_kinds_of_state.py::test_it_is_kept"


def _kept(what: str, how: str = "", test: str = _KINDS) -> Kind:
    return Kind(what, Fate.KEPT, how, test)


KEPT: Final = (
    _kept("Processes, threads, their ids, names, sessions and groups; zombies", "ids are those inside the container"),
    _kept(
        "A thousand threads, ten thousand descriptors",
        test="tests/node/engine/test_preflight.py::test_it_takes_little_time",
    ),
    _kept(
        "Processes stopped by SIGSTOP or SIGTSTP",
        "stay stopped until they are continued, 400 of them at most",
        "tests/node/engine/state/test_stopped_processes.py::test_stopped_processes_stay_stopped",
    ),
    _kept("Signal handlers, ignored, blocked and pending signals"),
    _kept(
        "Waits without a limit: poll, select, epoll_wait, sigwaitinfo, io_getevents, futex, read, accept",
        "they are entered again, unless a signal waits that is not blocked: EINTR then",
    ),
    _kept("Memory: private, shared between processes, locked, mapped files, unlinked files that are mapped"),
    _kept(
        "Huge pages (hugetlb), private or shared",
        "where the node has enough of them left; else a cold start (`huge-pages`)",
        "tests/node/engine/state/test_kinds_of_state.py::test_huge_pages",
    ),
    _kept("memfd, read and mapped", "a seal against writing does not go with a mapping: see refused"),
    _kept(
        "Programs that run from a memfd",
        "up to 64, of 512 MiB in all; the same name, content, seals, mode and owner, but of another inode than what is "
        "mapped of it; if no user may run it any more, its owner may",
    ),
    _kept(
        "Processor affinity, I/O priority (best effort, idle) and timer slack of each thread",
        "the same processors, if the new container has all of them",
    ),
    _kept("Limits (rlimits), nice value, scheduling class, OOM score, umask, working folder"),
    _kept(
        "The profile of AppArmor that the runtime gave the container",
        "that of the new container, for every thread",
        test="tests/node/engine/rights/test_apparmor.py::test_a_restored_worker_is_as_confined_as_it_was",
    ),
    _kept("no_new_privs, dropped capabilities, own seccomp filters, dumpable flag, subreaper, parent-death signal"),
    _kept(
        "Permission to use AMX (Intel)",
        "asked for again, by the processes that had it",
        "tests/node/engine/state/test_amx.py::test_permission_is_kept",
    ),
    _kept(
        "Protection keys (pkeys), what memory is under them, and each thread's rights to it",
        "the same keys, on a node that has them",
        "tests/node/engine/state/test_protection_keys.py::test_keys_are_kept",
    ),
    _kept("Pipes and FIFOs with what is in them, their size and flags"),
    _kept(
        "eventfd, epoll, signalfd, inotify, fanotify, pidfd of the worker's processes",
        "an edge (EPOLLET) that was seen is seen once more; of eventfds that are semaphores (EFD_SEMAPHORE) or hold "
        "more than 32 bits at most 128",
    ),
    _kept(
        "timerfd, timer_create, setitimer, timers of event loops",
        "the time that is left is kept, not the moment",
        "tests/node/engine/state/test_time.py::test_every_timer_goes_on",
    ),
    _kept(
        "Files, folders and devices (/dev/null, zero, random), shared positions, unlinked files, files of /proc",
        "a file without a name (O_TMPFILE) cannot be given one later",
    ),
    _kept("File locks: flock and POSIX record locks", "record locks of files that are mapped too: on x86-64"),
    _kept(
        "Open databases of SQLite, in every journal mode, with their transactions; of LMDB",
        "SQLite knows a file by its inode, of which the copy has another: a restore writes it where SQLite has it",
    ),
    _kept("POSIX semaphores"),
    _kept(
        "POSIX message queues, open or not, with their messages, limits, modes and owners",
        "of a worker that ends with its capture, in a pod without other containers",
    ),
    _kept(
        "System V shared memory, attached or not, semaphores with their values, message queues with their messages",
        "the same ids, keys, owners and creators; SHM_RDONLY, protections, and memory that was removed (IPC_RMID); "
        "what waits in semop, msgrcv or msgsnd waits on, but not with a time limit",
    ),
    _kept(
        "Pseudo-terminals that no process has as its /dev/tty",
        test="tests/node/engine/test_preflight.py::test_what_only_looks_like_it_is_captured",
    ),
    _kept(
        "Unix sockets within the worker: streams, datagrams, listeners, abstract names; descriptors that wait in them",
        "of descriptors that wait files, pipes, eventfds and Unix sockets: see refused",
    ),
    _kept("Listening TCP sockets, SO_REUSEPORT, options; UDP; netlink"),
    _kept(
        "TCP connections between the worker's own processes, with what is on its way in them",
        "on loopback and on the pod's own address",
        "tests/node/engine/state/test_connections.py::test_a_connection_within_the_tree_goes_on",
    ),
    _kept(
        "Sockets bound to the pod's own address",
        "follow to the new pod's, with agentMount and one address of each kind",
        "tests/node/engine/state/test_pod_addresses.py::test_sockets_follow_the_pod",
    ),
    _kept(
        "Files that the worker changed, made or deleted in its image",
        "up to `capture.rootfsLimit`; with holes, owner, mode, times, ACLs, user.* attributes, hard links",
        "tests/node/engine/state/test_worker_files.py::test_files_of_the_image_are_as_they_were",
    ),
    _kept(
        "Content of emptyDirs, on disk and in memory, and of /dev/shm",
        "up to `capture.emptyDirLimit` each; what the new pod has already stays",
        "tests/node/engine/state/test_worker_files.py::test_closed_files_of_an_empty_dir_travel",
    ),
    _kept(
        "Mode, owner, ACLs and user.* attributes of the root folder, of emptyDirs and of /dev/shm themselves",
        test="tests/node/engine/state/test_worker_files.py::test_the_top_of_each_file_system_is_as_it_was",
    ),
    _kept(
        "Device memory of NVIDIA GPUs, CUDA graphs, pinned memory",
        "same model, number and driver",
        "tests/node/engine/devices/test_gpu_workers.py::test_device_state_comes_back_before_the_worker_runs",
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
        "tests/node/engine/devices/test_shared_device_memory.py::test_processes_share_memory_again",
    ),
)
