"""What a worker is not captured with, and where that is seen."""

from __future__ import annotations

from typing import Final

from contract.api.states import Admission, AgentReason
from contract.remedies.kinds.kind import Fate, Kind

_UNKNOWN: Final = "tests/node/engine/state/test_kinds_of_state.py::test_it_is_refused_and_not_touched"
_PREFLIGHT: Final = "tests/node/engine/test_preflight.py::test_it_is_refused_and_not_touched"


def _refused(
    what: str, reason: AgentReason | Admission, how: str = "before anything is frozen", test: str = ""
) -> Kind:
    return Kind(what, Fate.REFUSED, how, test or _PREFLIGHT, reason)


REFUSED: Final = (
    _refused("io_uring", AgentReason.IO_URING),
    _refused(
        "POSIX message queues in a pod with another container or in a worker that goes on, with mq_notify, unlinked "
        "and open, in a Unix socket (SCM_RIGHTS), with a name that is not UTF-8, more than 256, 128 "
        "times open, or 65536 messages or 8 MiB of them",
        AgentReason.MESSAGE_QUEUE,
    ),
    _refused(
        "A pseudo-terminal of the worker's own that is open as /dev/tty, or whose other end was closed",
        AgentReason.PSEUDO_TERMINAL,
    ),
    _refused(
        "A terminal as the container's standard stream (tty: true, stdin: true)",
        AgentReason.TERMINAL,
        test="tests/unit/agent/executor/test_capture_restore_plans.py::test_terminal",
    ),
    _refused(
        "Performance counters, eBPF, userfaultfd, KVM, other devices, huge memfd, pipes of packets (O_DIRECT), "
        "more eventfds of the kinds that are kept in part, timers that wake the machine, pidfd of a thread or "
        "of a process outside, listeners of seccomp, triggers of pressure (PSI), a socket, FIFO, memfd, message queue, "
        "eventfd, timerfd or pidfd opened by O_PATH, "
        "epoll of a file that only another process has open, fanotify that decides about what is opened, inotify or "
        "fanotify on files of /proc, /sys or /dev/pts, a file that signals one thread (F_SETOWN_EX), files of one "
        "thread (/proc/PID/task/TID), of what was unmounted or never mounted, in a worker that goes on a file with a "
        "lease (F_SETLEASE), and whatever else has no name; descriptors that wait in a Unix socket (SCM_RIGHTS) but "
        "for files, pipes, Unix sockets and eventfds (but semaphores and those of more than 32 bits), or in several "
        "messages",
        AgentReason.UNSUPPORTED_DESCRIPTOR,
        test=_UNKNOWN,
    ),
    _refused(
        "MPTCP, vsock and other protocols; UDP with multicast groups or UDP_CORK; data in a Unix connection that was "
        "not accepted, or one that its client has closed; unread messages of netlink, its groups above 32; a socket "
        "that an eBPF program filters, but for Unix ones (SO_ATTACH_BPF); a Unix socket whose file has another "
        "name too (a hard link), or was renamed and is bound to a relative name or below another root, whose relative "
        "name leads through `.`, `..` or a link, or ends with `(deleted)`, or with unread data that says who sent it "
        "(SO_PASSCRED) or when",
        AgentReason.UNSUPPORTED_SOCKET,
        test=_UNKNOWN,
    ),
    _refused("A process that is traced (debuggers, `strace`)", AgentReason.TRACED, test=_UNKNOWN),
    _refused(
        "The device and inode of an open SQLite database at more than 65,536 places of its process's memory, or in "
        "more than 64 parts of it of 16 MiB",
        AgentReason.UNSUPPORTED_MEMORY,
        test=_UNKNOWN,
    ),
    _refused(
        "memfd_secret (mapped or only open), more programs from memfds than are kept, or with a name that is not "
        "UTF-8, a memfd sealed against writing and mapped; a process with the memory of its parent (vfork that "
        "lasts, CLONE_VM), or with the kernel's data (vvar) without its code (vdso)",
        AgentReason.UNSUPPORTED_MEMORY,
        test=_UNKNOWN,
    ),
    _refused(
        "System V objects that another container of the pod may have made, or a process outside of the worker has "
        "attached; semaphores that get something back at a process's end (SEM_UNDO); System V memory that is locked "
        "(SHM_LOCK), of huge pages, attached in part, or in a pod with kernel.shm_rmid_forced; more than 1024 objects, "
        "32000 semaphores, 16384 messages or 8 MiB of them",
        AgentReason.SYSV_IPC,
        test=_UNKNOWN,
    ),
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
        "Threads under SCHED_DEADLINE, or under a scheduler that is a BPF program (SCHED_EXT)",
        AgentReason.UNSUPPORTED_SCHEDULING,
        test=_UNKNOWN,
    ),
    _refused(
        "A process that shares its working folder with its parent (CLONE_FS), that sends another signal than SIGCHLD "
        "when it ends (clone), that may open fewer than 8 more descriptors (RLIMIT_NOFILE), that has no room left "
        "to map memory (RLIMIT_AS, vm.max_map_count), or that is in more groups than fit in 4080 bytes; runit's "
        "`runsvdir`, which would end its services and start them again; util-linux's `script`, and `su` and `runuser` "
        "with `--pty`, which would stop themselves",
        AgentReason.UNSUPPORTED_PROCESS,
        test=_UNKNOWN,
    ),
    _refused(
        "Registers in use that CRIU does not know: AMX's tiles (a thread in the middle of a computation), APX",
        AgentReason.UNSUPPORTED_REGISTERS,
        "by CRIU at the dump; the worker goes on",
        test="tests/node/engine/state/test_amx.py::test_tiles_in_use_are_refused",
    ),
    _refused(
        "Rights that the container's first process lacks (file capabilities, set-user-id programs)",
        AgentReason.IMAGES_WIDER,
        test="tests/node/engine/rights/test_image_rights.py::test_a_program_with_a_capability_is_seen_before_the_freeze",
    ),
    _refused(
        "Confinement by SELinux, by several profiles of AppArmor, or another one than the container's; a Landlock "
        "sandbox of a process, PR_SET_MDWE; without `allowUnconfined`",
        AgentReason.CONFINEMENT_LOST,
        test="tests/unit/agent/preflight/test_preflight_checks.py::test_what_is_in_the_way",
    ),
    _refused(
        "inotify or fanotify on files of the image, outside /etc, /lib/udev, /var/spool", AgentReason.INOTIFY_OVERLAY
    ),
    _refused("inotify on a file or folder that was deleted while it is open", AgentReason.INOTIFY_DELETED),
    _refused(
        "A file open or mapped for writing on a persistent volume or hostPath, or that is all of an emptyDir which is "
        "mounted (`subPath`); a termination log with words in it that is open for writing at any place",
        AgentReason.VOLUME_WRITTEN,
    ),
    _refused("What a privileged worker mounted in its container", AgentReason.MOUNTED_INSIDE, test=_UNKNOWN),
    _refused(
        "A file without a name (deleted, in /dev/shm too) of more than `config.criu.ghostLimit`",
        AgentReason.UNLINKED_TOO_LARGE,
        test="tests/node/engine/state/test_worker_files.py::test_a_deleted_file_that_is_too_large",
    ),
    _refused(
        "A deleted folder that is open or worked in, if something else has its name, the folder above it was deleted "
        "too, or it is of the image; a deleted file with a name of more than 237 bytes",
        AgentReason.UNLINKED_FOLDER,
        test=_UNKNOWN,
    ),
    _refused(
        "A socket on one of several addresses of the pod, or on a foreign one",
        AgentReason.ADDRESS_BOUND,
        test="tests/node/engine/state/test_pod_addresses.py::test_one_of_several_addresses_is_refused",
    ),
    _refused(
        "A Unix socket connected to another container or to the node (/dev/log)",
        AgentReason.UNIX_PEER_OUTSIDE,
        test="tests/node/engine/test_preflight.py::test_a_unix_socket_to_another_container",
    ),
    _refused(
        "More than `capture.emptyDirLimit` in an emptyDir or /dev/shm; folders there more than 500 deep, or with paths "
        "of more than 3800 bytes",
        AgentReason.VOLUME_TOO_LARGE,
        test="tests/node/engine/state/test_worker_files.py::test_too_much_is_refused_with_numbers",
    ),
    _refused(
        "More than `capture.rootfsLimit` of changed files of the image; folders among them more than 500 deep, or with "
        "paths of more than 3800 bytes",
        AgentReason.ROOTFS_TOO_LARGE,
        test="tests/node/engine/state/test_worker_files.py::test_too_much_is_refused_with_numbers",
    ),
    _refused(
        "A file of the image, an emptyDir or /dev/shm that the worker made immutable, or able to grow alone (chattr "
        "+i, +a)",
        AgentReason.IMMUTABLE_FILE,
        test="tests/node/engine/state/test_worker_files.py::test_what_cannot_travel_is_refused",
    ),
    _refused(
        "A file of a ConfigMap that was replaced while the worker has the former one open",
        AgentReason.VOLUME_FILE_REPLACED,
        test="tests/node/engine/state/test_worker_files.py::test_a_replaced_file_is_refused",
    ),
    _refused(
        "Device memory that the container's memory limit cannot hold",
        AgentReason.MEMORY_LIMIT,
        test="tests/node/engine/devices/test_gpu_workers.py::test_a_limit_that_cannot_hold_the_device_memory",
    ),
    _refused(
        "A driver that hangs nodes or ends workers",
        AgentReason.GPU_DRIVER_DENIED,
        test="tests/node/engine/devices/test_gpu_workers.py::test_a_denied_driver_is_asked_to_capture_nothing",
    ),
    _refused(
        "Managed memory of CUDA (`cudaMallocManaged`)",
        AgentReason.GPU_UNSUPPORTED,
        "by the driver's checkpoint; a worker that was running goes on",
        "tests/gpu/test_kinds_on_a_card.py::test_a_kind_of_state_is_refused",
    ),
    _refused(
        "Devices of the driver in a process that was forked from one that uses them",
        AgentReason.GPU_UNSUPPORTED,
        test="tests/node/engine/devices/test_gpu_workers.py::"
        "test_a_process_that_inherited_devices_is_refused_before_anything_is_touched",
    ),
    _refused(
        "A CUDA process that is stopped",
        AgentReason.GPU_BUSY,
        test="tests/node/engine/devices/test_ended_processes.py::"
        "test_a_cuda_process_that_is_stopped_is_refused_before_anything_is_touched",
    ),
    _refused(
        "A GPU in MIG mode whose parts the device plugin calls `nvidia.com/gpu`",
        AgentReason.GPU_UNSUPPORTED,
        test="tests/node/engine/devices/test_gpu_workers.py::test_a_gpu_that_is_divided_is_asked_for_nothing",
    ),
    _refused(
        "A CUDA graph that is being captured, with device memory outside the image",
        AgentReason.GPU_BUSY,
        test="tests/node/engine/devices/test_device_memory.py::test_a_graph_that_is_being_captured_is_not_spoiled",
    ),
    _refused(
        "Device memory that several processes share, and host memory that the driver made, with device memory in the "
        "image; memory of a multicast object",
        AgentReason.PROOF_FAILED,
        "by the proof: only the restore shows it",
        "tests/node/engine/devices/test_gpu_workers.py::test_device_state_that_cannot_come_back_is_found_by_the_proof",
    ),
    _refused(
        "Identity of one pod in the environment (name, uid, address, index), without a promise to renew it",
        Admission.PER_POD_IDENTITY,
        "at admission",
        "tests/unit/webhook/pods/test_second_looks.py::test_what_another_webhook_did_is_judged_whatever_the_first_look_did",
    ),
    _refused(
        "hostNetwork, hostPID, hostIPC, shareProcessNamespace, hostUsers: false, sandboxed runtimes",
        Admission.POD_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/pods/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
    _refused(
        "Windows",
        Admission.OS_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/pods/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
    _refused(
        "MIG devices, accelerators of other vendors",
        Admission.ACCELERATOR_UNSUPPORTED,
        "at admission",
        "tests/unit/webhook/pods/test_automatic_pods.py::test_what_cannot_be_captured_asks_for_nothing",
    ),
)
