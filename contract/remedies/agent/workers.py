"""Workers that cannot be captured."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import AgentReason
from contract.remedies.agent.words import SECTION
from contract.remedies.registry import Reason

WORKERS: Final = (
    Reason(
        SECTION,
        AgentReason.WORKER_EXITED,
        "The worker ended before it was captured; the message has its exit code.",
        "Read its log with the command in the message; a worker must stay up until its capture is done.",
    ),
    Reason(
        SECTION,
        AgentReason.NO_WORKER,
        "The worker, or its container, ended at the moment of capture.",
        "Read the container's log. If the kernel has ended a process of it (`OOMKilled`), raise "
        "`resources.limits.memory`: a checkpoint moves device memory into the worker's own.",
    ),
    Reason(
        SECTION,
        AgentReason.NOT_UNDER_STANDBY,
        "A running worker was to be captured that snapshot-standby did not start: it is its container's first process, "
        "and its process id is free in no restored container.",
        f'Label the pod template `{keys.LABEL_TRIGGER}: "true"` and start the pod again, or capture a worker that was '
        "restored; `snapshotctl checkpoint --manifest` captures another worker of the same manifest.",
    ),
    Reason(
        SECTION,
        AgentReason.TEMPLATE_DIFFERS,
        "A pod asks for the automatic checkpoint of a template that is not its own, so its memory would be restored "
        "into pods of another one.",
        "Delete the pod and make it again, so that the webhook works out its checkpoint: it was changed since, or its "
        f"`{keys.ANN_TEMPLATE_HASH}` was written by hand. To keep this worker all the same, "
        "`snapshotctl checkpoint --pod POD --name NAME`.",
        "The controller says it, on the pod; nothing was captured.",
    ),
    Reason(
        SECTION,
        AgentReason.OTHER_WORKLOAD,
        "A running pod asks to be captured for a checkpoint that another workload of its template asked for first, "
        "and whose capture failed.",
        "Delete that DynamoCheckpoint, whose name the message has: the next request then makes one from this pod.",
        "The controller says it, on the pod; nothing was captured.",
    ),
    Reason(
        SECTION,
        AgentReason.WORKER_NOT_STOPPED,
        "A process of the running worker that was to be captured did not stop within a second; the worker goes on.",
        "Ask again; state D in the message means that it waits for a disk or a network file system.",
    ),
    Reason(
        SECTION,
        AgentReason.TERMINAL,
        "The container has a terminal or an attached input, which cannot be captured.",
        "Set `tty: false` and `stdin: false`.",
    ),
    Reason(
        SECTION,
        AgentReason.IO_URING,
        "The worker uses io_uring, which CRIU cannot capture.",
        (
            "Let the capture run with the chart's seccomp profile (`checkpoint.seccomp`, on by default): take a "
            "`seccompProfile` of its own off the container. Libraries then fall back to epoll."
        ),
        "uvloop, libuv (Node.js) and PyTorch's TCP store try it, and go on without where the kernel refuses it. "
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.MESSAGE_QUEUE,
        "The pod has a POSIX message queue that is not the worker's alone, or of which something would be lost.",
        "Have no other container in a pod with one, capture such a worker by a checkpoint Job, and call mq_notify "
        "after the snapshot; or use a System V message queue in its place.",
        "It belongs to the pod's IPC namespace, and nothing says which container made it. Its messages can only be "
        "read by taking them out, so a worker that goes on is not captured. Refused are also one that was unlinked and "
        "is open, one that waits in a Unix socket, and more than 256 or 8 MiB of messages. Nothing was touched; the "
        "capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.PSEUDO_TERMINAL,
        "A process of the worker has `/dev/tty` open, which CRIU cannot capture, or the master of a terminal whose "
        "other end was closed.",
        "Start such processes (interactive shells, `pexpect`) after the snapshot, or by pipes; close the master "
        "when the process at the other end has ended.",
        "A terminal of the worker's own is captured as long as no process opens it as `/dev/tty`. Reading from a "
        "master without its other end fails (EIO), and in a restored worker it would wait for ever. Nothing was "
        "touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_DESCRIPTOR,
        "The worker has a descriptor open of a kind that CRIU does not know.",
        "Close it before the snapshot and open it after it.",
        "Performance counters, eBPF, userfaultfd, Landlock rule sets, KVM, a memfd of huge pages, and devices other "
        "than those of GPUs, terminals and the plain ones such as /dev/null. More than 128 eventfds with EFD_SEMAPHORE "
        "or a count of more than 32 bits, a trigger of pressure stall information, a pidfd of a thread or of a process "
        "that is not the worker's, a timer that "
        "wakes the machine, the listener of a seccomp filter, a socket, FIFO, memfd, message queue, eventfd, "
        "timerfd or pidfd that is open by O_PATH, an epoll "
        "descriptor that watches a file which only another process has open, fanotify that decides about what is "
        "opened, inotify or fanotify on files of /proc, /sys or /dev/pts, a file that signals one thread "
        "(F_SETOWN_EX), files of one thread (/proc/PID/task/TID), and files of mounts that were taken away. Of "
        "descriptors that wait in a Unix socket and were not received yet all but files, pipes, Unix sockets and "
        "other eventfds, and those of a second message, which cannot be seen. Nothing was touched; the capture is not "
        "tried "
        "again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_SOCKET,
        "The worker has a socket that CRIU does not know, or in a state that it cannot restore.",
        "Close it before the snapshot and open it after it. Programs of Go do without MPTCP "
        "(`GODEBUG=multipathtcp=0`) unless the pod, or the program itself, asks for it: do not.",
        "Known are TCP, UDP, raw, Unix, netlink and packet sockets; not MPTCP, vsock, SCTP and others. Refused as "
        "well: UDP in a pod of which a socket has joined a multicast group, since a restored socket is in none; UDP "
        "with UDP_CORK; data that was sent by a Unix connection within the worker before that was accepted, and one "
        "that its client closed before; a netlink socket with messages that were not read, or in a group above 32; a "
        "socket that an eBPF program filters; a Unix socket whose file was renamed since, or has a hard link, that was "
        "bound by a relative name through `.`, `..` or a link, or by one that ends with `(deleted)`, or in which "
        "data waits that says who sent it (SO_PASSCRED) or when (SO_TIMESTAMP). Nothing was touched; the capture is "
        "not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_MEMORY,
        "The worker has memory that CRIU cannot restore.",
        "Do without it until the snapshot is taken.",
        "Secret memory (memfd_secret), programs of more than 512 MiB that run from memfds, a memfd that is mapped and "
        "sealed against writing, a process that has one memory with its parent (a vfork that lasts, or CLONE_VM), "
        "one that has unmapped the kernel's code (vdso) without its data (vvar), and one that has the device and inode "
        "of an open SQLite database at more than 65,536 places or in more than 64 parts of memory of 16 MiB. Nothing "
        "was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.SYSV_IPC,
        "The pod has a System V object that is not the worker's alone, or of which something would be lost.",
        "Have no other container of the pod, and no exec probe, use System V objects; without that, use POSIX shared "
        "memory and semaphores (`multiprocessing` does), or make them after the snapshot.",
        "The message says which object, and why: a process outside of the worker has it attached, or may have made it; "
        "semaphores get something back when a process ends (SEM_UNDO); memory is locked (SHM_LOCK), has huge pages "
        "(SHM_HUGETLB), is attached in part, or ends with its last user (kernel.shm_rmid_forced); there are more than "
        "1024 objects, 32000 semaphores, 16384 messages or 8 MiB of messages. Nothing was touched, but if it came "
        "while the worker was captured; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.NESTED_NAMESPACES,
        "A process of the worker has namespaces of its own, which CRIU cannot capture.",
        "Start sandboxes and rootless containers after the snapshot, or switch the worker's own sandbox off.",
        "The container is one sandbox already. Chromium's `--no-sandbox` is an example. Nothing was touched; the "
        "capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.THREAD_APART,
        "A thread of the worker has descriptors, a working folder or namespaces that the others do not have, which "
        "CRIU does not see.",
        "Let a process of its own do that (unshare(2) in a child), or let the thread end before the snapshot.",
        "The restored thread would have those of the first one. A process whose first thread has ended while others go "
        "on (pthread_exit in main) is refused as well. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_SCHEDULING,
        "A thread of the worker is scheduled by SCHED_DEADLINE or SCHED_EXT, which CRIU cannot restore.",
        "Set that policy after the snapshot (a hook of the SDK), or take SCHED_FIFO or SCHED_RR, which are kept.",
        "CRIU writes the policy down without its times, and refuses it at the restore. Nothing was touched; the "
        "capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_PROCESS,
        "A process of the worker shares its working folder with its parent, sends another signal than SIGCHLD when it "
        "ends, has no descriptors or no room for mappings left, is in too many groups, is runit's `runsvdir`, or "
        "util-linux's `script`, `su --pty` or `runuser --pty`; the message names it.",
        "Start it by fork, vfork or posix_spawn, not by clone(2) with CLONE_FS or another signal. For the third, "
        "raise the limit (RLIMIT_NOFILE, RLIMIT_AS, vm.max_map_count), or look for what is never closed or unmapped. "
        "Groups are set by setgroups, or by supplementalGroups of the pod. In place of `runsvdir` start `runsv` for "
        "each service, or another supervisor (s6, supervisord). Start "
        "the worker without `script` and `--pty`.",
        "CRIU starts every process as fork does, and has each open and map something for it. `runsvdir` knows its "
        "services by the inodes of their folders, which are others in a new container. `script` and "
        "the like stop themselves when they hear that their child was stopped, and so it is for a moment. Nothing was "
        "touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.INOTIFY_OVERLAY,
        "The worker watches files of its image by inotify or fanotify, which CRIU cannot capture on an overlay file "
        "system.",
        "Switch the reloader off (`uvicorn` without `--reload`), or watch a folder of a volume.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.INOTIFY_DELETED,
        "The worker watches a file or folder by inotify that was deleted and is still open, which CRIU cannot find.",
        "Close it before the snapshot: the watch ends with it.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.VOLUME_WRITTEN,
        "The worker has a file open for writing on a volume that outlives it.",
        (
            "Close such files before the snapshot and open them after it. If writing there is safe whatever others "
            f"wrote meanwhile, say so on the pod template: `{keys.ANN_WRITABLE_MOUNTS}: <mount path>[,<mount path>]`, "
            "as the message names them."
        ),
        "A restored worker goes on with what it knew of the file, and would write over records that are newer than its "
        "memory. Files that are open for reading are fine, and so are emptyDirs: their content travels. Of an emptyDir "
        "that is mounted as one file (`subPath`) it does not, nor do words in the termination log: open that to append "
        "(`tee -a`). Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.MOUNTED_INSIDE,
        "A process of the container mounted something after the container had started, which another container lacks.",
        "Have the pod mount it (a volume), or mount it after the snapshot.",
        "It takes CAP_SYS_ADMIN. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNLINKED_TOO_LARGE,
        "The worker holds a file that has no name any more, in /dev/shm as a rule, which is larger than CRIU copies.",
        "Set `config.criu.ghostLimit` to more bytes than the message names, or make the file after the snapshot.",
        "Object stores and queues of frameworks (Ray, PyTorch's loaders) delete their shared memory while they use it. "
        "CRIU puts such a file into the image. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.UNLINKED_FOLDER,
        "A process works in, or has open, a folder or file that was deleted, and its name cannot be used for it once "
        "more.",
        "Start the process in a folder that stays, or leave the deleted one (`cd /`) before the snapshot; give files "
        "that are deleted while they are open shorter names.",
        "CRIU makes such a folder at its former name and removes it again. If something else has that name by now it "
        "would be removed instead, and folders above it that were deleted too would be there again. So it is with a "
        "deleted file of which the folder is a file by now, and with a deleted folder of the image. A deleted file is "
        "made under its name and 18 bytes more, for which the name may be too long. Nothing was touched; the capture "
        "is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.IMMUTABLE_FILE,
        "A file that travels with the worker is immutable, or can only grow (chattr +i, +a).",
        "Take the attribute away (`chattr -i -a`), or set it in a hook after the restore.",
        "It takes a capability that containers do not have by themselves. A restore that fails could not take such a "
        "file back. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.ADDRESS_BOUND,
        "The worker is bound to an address that a restored pod does not have.",
        (
            "Bind to `0.0.0.0` or `127.0.0.1`. For engines: `GLOO_SOCKET_IFNAME=lo`, `NCCL_SOCKET_IFNAME=lo`, "
            "`VLLM_HOST_IP=127.0.0.1`. Connect UDP sockets after the snapshot."
        ),
        "A socket on the one IPv4 or IPv6 address of its pod follows to the address of the restored pod, if the agent "
        "mounts the storage itself (agentMount). With podMount, or if the pod has several addresses of that kind, it "
        "cannot: CRIU would restore it on the address that it had. At a capture nothing was touched, and it is not "
        "tried again by itself; at a restore the message names the address whose like that pod lacks.",
    ),
    Reason(
        SECTION,
        AgentReason.UNIX_PEER_OUTSIDE,
        "The worker is connected by a Unix socket to a process that is not its own, which CRIU cannot capture.",
        (
            "Close such connections before the worker says that it is ready and open them after the restore. Or "
            "connect to the other container by TCP on `127.0.0.1`: that is closed, and the worker connects again."
        ),
        "Sidecars are met by a socket in a shared volume (proxies, secrets agents), the node by a socket that is "
        "mounted (`/dev/log`). Connections between the worker's own processes are fine, and so is a socket that the "
        "worker listens on. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.CONFINEMENT_LOST,
        "What confines the worker is nothing that a restore can give it: SELinux, two profiles of AppArmor at once, "
        "one of a namespace of AppArmor's or on a kernel before 5.8, another one than its container's, or a Landlock "
        "sandbox or PR_SET_MDWE, by which a process confines itself.",
        "A process that changes its own profile, or makes a sandbox: have it do so after the snapshot is taken. "
        "Otherwise set `config.restore.allowUnconfined=true`, for all nodes: restored workers then have what is left, "
        "capabilities, seccomp and namespaces, as captured.",
        "The one profile of AppArmor that a runtime gives a container is kept: a restored worker is under that of its "
        "new container. A pod's owner cannot decide this by an annotation: a profile is often a rule that others made.",
    ),
    Reason(
        SECTION,
        AgentReason.TRACED,
        "A process of the worker is traced, by a debugger or by another process of it, and CRIU cannot stop it.",
        "Detach `gdb`, `strace`, `py-spy` or whatever the message names before the snapshot is taken; a worker that "
        "traces processes of its own must let go of them.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.IMAGE_UNREADABLE,
        "What the container's image runs could not be determined.",
        "Give the container a `command` in the pod template.",
        (
            "The container was to run what its image says, its image has no record of that (tools are injected), and "
            "the node agent found no configuration of it in the runtime's store. The agent looks in the stores of "
            "containerd and CRI-O, beside the container's own layers and in the usual folders; a runtime that keeps "
            "its images elsewhere needs workers with a `command`, or placeholder images."
        ),
    ),
)
