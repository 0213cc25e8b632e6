"""What the codes of the node agent's reports mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.api.states import Admission, AgentReason
from contract.remedies.registry import ANOTHER_VERSION, REASONS_PAGE, Origin, Reason, Section

_SECTION: Final = Section(
    REASONS_PAGE,
    Origin(
        "the node agent",
        f"in field `reason` of annotation `{keys.ANN_RESTORE_REPORT}` of the pod and `{keys.ANN_CAPTURE_REPORT}` of "
        "the capture Job, and in Events of both",
    ),
    "Restore and capture",
    intro=f"How a restore ended is written on the pod: `{keys.ANN_RESTORE_STATUS_PREFIX}<container>` says `completed` "
    f"or `failed`, `{keys.ANN_RESTORE_REPORT}` says why and how long each phase took, and an Event says it in words.\n"
    "A failed restore is a cold start in the same container; the first line of the worker's log begins with "
    "`SNAPSHOT_COLD_START`.\n"
    "If there is nothing to restore (the checkpoint was deleted, failed, or is another one), the node agent says so at "
    "once and the cold start waits for nothing.\n"
    f"How a capture ended is written on its Job (`{keys.ANN_CHECKPOINT_STATUS}`, `-capture-message`, "
    "`-capture-report`), from where the DynamoCheckpoint takes its message.\n"
    "The codes below are a closed list: alerts may match it.",
    headings_above=frozenset(Admission),
)
_RAISE: Final = f"capture again: `kubectl annotate dckpt NAME {keys.ANN_ARTIFACT_VERSION}{ANOTHER_VERSION}"
_CAPTURE_AGAIN: Final = _RAISE[0].upper() + _RAISE[1:] + "."
_AGENT: Final = f"`kubectl get pods -A -o wide -l {keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}`"
_BYPASS: Final = (
    "If you know better, annotate the pod, or set `config.restore.bypass` ([compatibility](compatibility.md))."
)

AGENT_REASONS: Final = (
    Reason(
        _SECTION,
        AgentReason.CHECKPOINT_UNNAMED,
        "The pod carries a checkpoint id, but nothing says which manifest may be restored.",
        (
            "Take the id out of the pod template and let the webhook shape the pod: opt in with label "
            f"`{keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME}`."
        ),
        f"The annotation `{keys.ANN_CHECKPOINT}` is missing.",
    ),
    Reason(
        _SECTION,
        AgentReason.CHECKPOINT_NOT_FOUND,
        "The DynamoCheckpoint was deleted between the pod's admission and its start.",
        "Create it again, or take the opt-in off.",
    ),
    Reason(
        _SECTION,
        AgentReason.CHECKPOINT_NOT_READY,
        "The DynamoCheckpoint stopped being Ready between the pod's admission and its start.",
        "`snapshotctl describe NAME` says why; pods created once it is Ready are restored.",
    ),
    Reason(
        _SECTION,
        AgentReason.CHECKPOINT_CHANGED,
        "The DynamoCheckpoint now names another artifact than the pod was shaped for.",
        "Delete the pod: its successor is shaped for the new one.",
    ),
    Reason(
        _SECTION,
        AgentReason.DIGEST_UNKNOWN,
        "The DynamoCheckpoint has no `status.manifestDigest`, so no manifest can be trusted.",
        _CAPTURE_AGAIN,
    ),
    Reason(
        _SECTION,
        AgentReason.ID_INVALID,
        "The id or version on the pod is not made of lower-case letters, digits and hyphens.",
        "Correct it where it comes from; the webhook and controller write none such.",
    ),
    Reason(
        _SECTION,
        AgentReason.TARGETS_INVALID,
        "The pod lacks a container that is named as target, or a capture pod has more than one target.",
        (
            f"Correct annotation `{keys.ANN_TARGET_CONTAINERS}` of the pod template, or "
            "`spec.job.targetContainerName` of the DynamoCheckpoint."
        ),
    ),
    Reason(
        _SECTION,
        AgentReason.STORAGE_PATH,
        "The storage path on the pod is not a clean absolute path.",
        "Correct `storage.pvc.basePath` of the chart, or take the annotation off the pod template.",
        f"It is annotation `{keys.ANN_STORAGE_BASE_PATH}`.",
    ),
    Reason(
        _SECTION,
        AgentReason.STORAGE_TYPE,
        "The pod names a store that this version does not serve.",
        f"Take annotation `{keys.ANN_STORAGE_TYPE}` off the pod template; only `pvc` is served.",
    ),
    Reason(
        _SECTION,
        AgentReason.STORAGE_MISSING,
        "The checkpoint volume is not mounted.",
        "Look at the PersistentVolumeClaim and at the chart's `storage` values.",
        "It is mounted in the agent with `agentMount`, in the pod with `podMount`.",
    ),
    Reason(
        _SECTION,
        AgentReason.STORAGE_UNWRITABLE,
        "The checkpoint volume could not be written, most often because it is full.",
        "Make room: delete DynamoCheckpoints that are no longer needed, or enlarge the volume.",
    ),
    Reason(
        _SECTION,
        AgentReason.WORKER_EXITED,
        "The worker ended before it was captured; the message has its exit code.",
        "Read its log with the command in the message; a worker must stay up until its capture is done.",
    ),
    Reason(_SECTION, AgentReason.NO_WORKER, "The worker ended at the moment of capture.", "Read the container's log."),
    Reason(
        _SECTION,
        AgentReason.NOT_UNDER_STANDBY,
        "A running worker was to be captured that snapshot-standby did not start: it is its container's first process, "
        "and its process id is free in no restored container.",
        f'Label the pod template `{keys.LABEL_TRIGGER}: "true"` and start the pod again, or capture a worker that was '
        "restored; `snapshotctl checkpoint --manifest` captures another worker of the same manifest.",
    ),
    Reason(
        _SECTION,
        AgentReason.TEMPLATE_DIFFERS,
        "A pod asks for the automatic checkpoint of a template that is not its own, so its memory would be restored "
        "into pods of another one.",
        "Delete the pod and make it again, so that the webhook works out its checkpoint: it was changed since, or its "
        f"`{keys.ANN_TEMPLATE_HASH}` was written by hand. To keep this worker all the same, "
        "`snapshotctl checkpoint --pod POD --name NAME`.",
        "The controller says it, on the pod; nothing was captured.",
    ),
    Reason(
        _SECTION,
        AgentReason.OTHER_WORKLOAD,
        "A running pod asks to be captured for a checkpoint that another workload of its template asked for first, "
        "and whose capture failed.",
        "Delete that DynamoCheckpoint, whose name the message has: the next request then makes one from this pod.",
        "The controller says it, on the pod; nothing was captured.",
    ),
    Reason(
        _SECTION,
        AgentReason.WORKER_NOT_STOPPED,
        "A process of the running worker that was to be captured did not stop within a second; the worker goes on.",
        "Ask again; state D in the message means that it waits for a disk or a network file system.",
    ),
    Reason(
        _SECTION,
        AgentReason.TERMINAL,
        "The container has a terminal or an attached input, which cannot be captured.",
        "Set `tty: false` and `stdin: false`.",
    ),
    Reason(
        _SECTION,
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
        _SECTION,
        AgentReason.MESSAGE_QUEUE,
        "The worker has a POSIX message queue open, which CRIU cannot capture.",
        "Close it before the worker says that it is ready, or use a pipe or a Unix socket in its place.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.PSEUDO_TERMINAL,
        "A process of the worker has `/dev/tty` open, which CRIU cannot capture.",
        "Start such processes (interactive shells, `pexpect`) after the snapshot, or by pipes.",
        "A terminal of the worker's own is captured as long as no process opens it as `/dev/tty`. Nothing was touched; "
        "the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.UNSUPPORTED_DESCRIPTOR,
        "The worker has a descriptor open of a kind that CRIU does not know.",
        "Close it before the snapshot and open it after it.",
        "Performance counters, eBPF, userfaultfd, Landlock rule sets, KVM, a memfd of huge pages, and devices other "
        "than those of GPUs, terminals and the plain ones such as /dev/null. An eventfd with EFD_SEMAPHORE, a trigger "
        "of pressure stall information, a pidfd of a thread or of a process that is not the worker's, a timer that "
        "wakes the machine, the listener of a seccomp filter, a socket or FIFO that is open by O_PATH, an epoll "
        "descriptor that watches a file which only another process has open. Of descriptors that wait in a Unix socket "
        "and were not received yet all but files, pipes, eventfds and Unix sockets, and those of a second message, "
        "which cannot be seen. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.UNSUPPORTED_SOCKET,
        "The worker has a socket that CRIU does not know, or in a state that it cannot restore.",
        "Close it before the snapshot and open it after it. Programs of Go do without MPTCP "
        "(`GODEBUG=multipathtcp=0`) unless the pod, or the program itself, asks for it: do not.",
        "Known are TCP, UDP, raw, Unix, netlink and packet sockets; not MPTCP, vsock, SCTP and others. Refused as "
        "well: UDP in a pod of which a socket has joined a multicast group, since a restored socket is in none; data "
        "that was sent by a Unix connection within the worker before that was accepted; a netlink socket with "
        "messages that were not read; a Unix socket whose file was renamed since, or has a hard link, or in which "
        "data waits that says who sent it (SO_PASSCRED) or when (SO_TIMESTAMP). Nothing was touched; the capture is "
        "not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.UNSUPPORTED_MEMORY,
        "The worker has memory that CRIU cannot restore.",
        "Do without it until the snapshot is taken.",
        "Secret memory (memfd_secret), a program that runs from a memfd, a memfd that is mapped and sealed against "
        "writing, and a process that has one memory with its parent: a vfork that "
        "lasts, or CLONE_VM. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.SYSV_IPC,
        "There is System V shared memory, a semaphore or a message queue in the pod.",
        "Use POSIX shared memory and semaphores (`multiprocessing` does), or make them after the snapshot.",
        "They belong to the pod's IPC namespace and not to a process: the restored worker would not find them. Nothing "
        "was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.NESTED_NAMESPACES,
        "A process of the worker has namespaces of its own, which CRIU cannot capture.",
        "Start sandboxes and rootless containers after the snapshot, or switch the worker's own sandbox off.",
        "The container is one sandbox already. Chromium's `--no-sandbox` is an example. Nothing was touched; the "
        "capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.THREAD_APART,
        "A thread of the worker has descriptors, a working folder or namespaces that the others do not have, which "
        "CRIU does not see.",
        "Let a process of its own do that (unshare(2) in a child), or let the thread end before the snapshot.",
        "The restored thread would have those of the first one. A process whose first thread has ended while others go "
        "on (pthread_exit in main) is refused as well. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.INOTIFY_OVERLAY,
        "The worker watches files of its image by inotify or fanotify, which CRIU cannot capture on an overlay file "
        "system.",
        "Switch the reloader off (`uvicorn` without `--reload`), or watch a folder of a volume.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.INOTIFY_DELETED,
        "The worker watches a file or folder by inotify that was deleted and is still open, which CRIU cannot find.",
        "Close it before the snapshot: the watch ends with it.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.VOLUME_WRITTEN,
        "The worker has a file open for writing on a volume that outlives it.",
        (
            "Close such files before the snapshot and open them after it. If writing there is safe whatever others "
            f"wrote meanwhile, say so on the pod template: `{keys.ANN_WRITABLE_MOUNTS}: <mount path>[,<mount path>]`, "
            "as the message names them."
        ),
        "A restored worker goes on with what it knew of the file, and would write over records that are newer than its "
        "memory. Files that are open for reading are fine, and so are emptyDirs: their content travels. Nothing was "
        "touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.MOUNTED_INSIDE,
        "A process of the container mounted something after the container had started, which another container lacks.",
        "Have the pod mount it (a volume), or mount it after the snapshot.",
        "It takes CAP_SYS_ADMIN. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.UNLINKED_TOO_LARGE,
        "The worker holds a file that has no name any more, in /dev/shm as a rule, which is larger than CRIU copies.",
        "Set `config.criu.ghostLimit` to more bytes than the message names, or make the file after the snapshot.",
        "Object stores and queues of frameworks (Ray, PyTorch's loaders) delete their shared memory while they use it. "
        "CRIU puts such a file into the image. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.UNLINKED_FOLDER,
        "A process works in, or has open, a folder that was deleted, and its name cannot be used for it once more.",
        "Start the process in a folder that stays, or leave the deleted one (`cd /`) before the snapshot.",
        "CRIU makes such a folder at its former name and removes it again. If something else has that name by now it "
        "would be removed instead, and folders above it that were deleted too would be there again. So it is with a "
        "deleted file of which the folder is a file by now, and with a deleted folder of the image. Nothing was "
        "touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.IMMUTABLE_FILE,
        "A file that travels with the worker is immutable, or can only grow (chattr +i, +a).",
        "Take the attribute away (`chattr -i -a`), or set it in a hook after the restore.",
        "It takes a capability that containers do not have by themselves. A restore that fails could not take such a "
        "file back. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.MAPPED_AND_LOCKED,
        "A process has a file mapped of which it holds a record lock, as SQLite does in WAL mode, and LMDB.",
        "Close the database before the snapshot and open it after it, in a hook; SQLite holds no such lock in another "
        "journal mode while it is idle.",
        "CRIU takes the locks first and closes the file of each mapping then, by which the kernel drops all record "
        "locks of the process. The next one that opens the database would take itself for the only one, and make "
        "the shared index again. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
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
        _SECTION,
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
        _SECTION,
        AgentReason.CONFINEMENT_LOST,
        "What confines the worker is nothing that a restore can give it: SELinux, two profiles of AppArmor at once, "
        "one of a namespace of AppArmor's or on a kernel before 5.8, or another one than its container's.",
        "A process that changes its own profile: have it changed after the snapshot is taken. Otherwise set "
        "`config.restore.allowUnconfined=true`, for all nodes: restored workers then have what is left, capabilities, "
        "seccomp and namespaces, as captured.",
        "The one profile of AppArmor that a runtime gives a container is kept: a restored worker is under that of its "
        "new container. A pod's owner cannot decide this by an annotation: a profile is often a rule that others made.",
    ),
    Reason(
        _SECTION,
        AgentReason.TRACED,
        "A process of the worker is traced, by a debugger or by another process of it, and CRIU cannot stop it.",
        "Detach `gdb`, `strace`, `py-spy` or whatever the message names before the snapshot is taken; a worker that "
        "traces processes of its own must let go of them.",
        "Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
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
    Reason(
        _SECTION,
        AgentReason.STANDBY_NOT_UP,
        "No `snapshot-standby` waited in the container.",
        "Build the placeholder image again, and let the webhook shape the pod.",
        "The image is no placeholder, or the container's command does not begin with standby.",
    ),
    Reason(
        _SECTION,
        AgentReason.ALREADY_STARTED,
        "The container started by itself before an agent could claim it.",
        f"Look at the agent on that node: {_AGENT}.",
        (
            "No agent was on the node for five seconds, or the agent was restarted meanwhile. The first line of the "
            "worker's log says how it started."
        ),
    ),
    Reason(
        _SECTION,
        AgentReason.CLAIM_GONE,
        "Standby stopped waiting while it was being claimed.",
        "Nothing to do if it is rare; else look whether the node is overloaded.",
    ),
    Reason(
        _SECTION,
        AgentReason.CONTROL_BLOCKED,
        "The agent's word for standby could not be written into the container's control directory: a folder of that "
        "name is in the way, or the volume is full.",
        "Find out what in the container writes there, and why; no process but standby and the SDK has business there.",
    ),
    Reason(
        _SECTION,
        AgentReason.CLAIM_TAKEN,
        "Another agent holds the container.",
        "Look whether two releases serve the same namespace.",
    ),
    Reason(
        _SECTION,
        AgentReason.AGENT_DIED,
        "An agent ended in the middle of the work.",
        "Look why: `kubectl describe pod` of the agent, most often its memory limit.",
        "A restore is followed by a cold start; a capture must be made again under a new version.",
    ),
    Reason(
        _SECTION,
        AgentReason.ARTIFACT_MISSING,
        "The artifact is not in the store.",
        _CAPTURE_AGAIN,
        "It was removed by hand, or the volume is another one.",
    ),
    Reason(
        _SECTION,
        AgentReason.ARTIFACT_UNREADABLE,
        "The artifact is there but cannot be read; the message says why.",
        "Look at the volume.",
    ),
    Reason(
        _SECTION,
        AgentReason.ARTIFACT_CORRUPT,
        "A file of the artifact is not what its manifest says.",
        _CAPTURE_AGAIN + " Look at the volume's health.",
    ),
    Reason(
        _SECTION,
        AgentReason.ARTIFACT_EXISTS,
        "An artifact of that id and version exists already and is never overwritten.",
        f"Take it over with `snapshotctl adopt NAME --version VERSION`, or {_RAISE}.",
    ),
    Reason(
        _SECTION,
        AgentReason.MANIFEST_UNREADABLE,
        "The artifact's manifest is missing parts or is not YAML.",
        _CAPTURE_AGAIN,
    ),
    Reason(
        _SECTION,
        AgentReason.MANIFEST_DIGEST,
        "The artifact's manifest is not the one that the DynamoCheckpoint names: it was changed or replaced.",
        _CAPTURE_AGAIN + " Find out who writes to the volume.",
    ),
    Reason(
        _SECTION,
        AgentReason.MANIFEST_FORMAT,
        "The artifact was written by another version of this system.",
        _CAPTURE_AGAIN,
    ),
    Reason(
        _SECTION,
        AgentReason.ARCHITECTURE_MISMATCH,
        "The node's architecture is not that of the capture.",
        "Give the pods a node selector on `kubernetes.io/arch`, or capture on this architecture.",
    ),
    Reason(
        _SECTION,
        AgentReason.CPU_MISMATCH,
        "The node's processor lacks features that the worker was captured with.",
        "Keep the pods on nodes of one kind, or capture on the oldest.",
        _BYPASS,
    ),
    Reason(
        _SECTION,
        AgentReason.KERNEL_MISMATCH,
        "The node's kernel is older than that of the capture.",
        "Update the node, or capture on the oldest kernel of the pool.",
        f"Major and minor number are compared, not the patch level. {_BYPASS}",
    ),
    Reason(
        _SECTION,
        AgentReason.CRIU_MISMATCH,
        "The artifact was captured with a newer CRIU than this agent's.",
        "Update the agent.",
    ),
    Reason(
        _SECTION,
        AgentReason.IMAGE_MISMATCH,
        "The container runs another image than the captured one, though its name may be the same.",
        _CAPTURE_AGAIN + " Name images by digest, so that a tag cannot move below a checkpoint.",
        _BYPASS,
    ),
    Reason(
        _SECTION,
        AgentReason.CPU_LIMIT,
        "The container's CPU limit is lower than that of the captured one.",
        "Give the pods the captured template's `resources.limits.cpu`, or capture with the lower one.",
        f"A worker sizes its pools of threads when it starts. {_BYPASS}",
    ),
    Reason(
        _SECTION,
        AgentReason.HUGE_PAGES,
        "The worker has huge pages, and the node has fewer left than it needs.",
        "Request them (`hugepages-2Mi` in `resources.limits`), so that pods run on nodes that have some, and see who "
        "else uses those of the node.",
        "Huge pages (hugetlb) are set aside when a node starts. Nothing was touched. At a proof it is the message of "
        f"[`{AgentReason.PROOF_FAILED}`](#{AgentReason.PROOF_FAILED}).",
    ),
    Reason(
        _SECTION,
        AgentReason.BYPASS_INVALID,
        "The pod asks to bypass a check that does not exist or cannot be bypassed.",
        f"Correct annotation `{keys.ANN_BYPASS}`; the message lists the ids that it may hold.",
    ),
    Reason(
        _SECTION,
        AgentReason.WIDER_RIGHTS,
        "The captured worker had a user, capability or freedom that the pod does not give.",
        "Make the security contexts of capture and restore pods alike.",
        "An artifact never brings rights along.",
    ),
    Reason(
        _SECTION,
        AgentReason.IMAGES_WIDER,
        "A process of the worker has, or would get from CRIU's images, more than the container's first process: "
        "capabilities, users or groups, limits, or a weaker sandbox.",
        "At a capture, run no program with file capabilities or a set-user-id bit. At a restore, capture again on a "
        "node with the same runtime and configuration; if files of the store may have been changed, treat it as a "
        "break-in.",
        "Compared before a worker is frozen, before CRIU restores, and before the restored processes run.",
    ),
    Reason(
        _SECTION,
        AgentReason.MOUNTS_MISSING,
        "The worker uses files on a volume that the pod does not mount at the same path.",
        "Mount the same volumes as in the captured template.",
    ),
    Reason(
        _SECTION,
        AgentReason.PIDS_TAKEN,
        "Process ids of the worker are in use in the container.",
        "Take out of the container what runs there before the worker.",
    ),
    Reason(
        _SECTION,
        AgentReason.VOLUME_TOO_LARGE,
        "An emptyDir, or shared memory, holds more than a capture takes along.",
        "Keep such data on a persistent volume or in the image, name what a restored worker does not need in "
        "`config.overlay.exclusions`, or raise `capture.emptyDirLimit`.",
        "The message names the volume and its largest file, or a folder that is more than 500 folders deep or of which "
        "the path has more than 3800 bytes. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.VOLUME_FILE_REPLACED,
        "The worker has a file of a ConfigMap, Secret, projected or downward volume open that kubelet has replaced "
        "since.",
        "Capture a worker that started after the change: let the checkpoint's next attempt run.",
        "The file is only in the worker's hands, and no other pod has it. Nothing was touched.",
    ),
    Reason(
        _SECTION,
        AgentReason.VOLUME_FILE_CHANGED,
        "The worker has a file open that is another in this pod: of a ConfigMap, Secret, projected or downward volume, "
        "or an emptyDir's that an init container wrote.",
        _CAPTURE_AGAIN + " Or have the worker close the file once it has read it.",
        "A worker that goes on reading a file in the middle, or has it mapped, would mix old and new. Files that are "
        "closed may change: the worker sees those of its new pod. Nothing was touched.",
    ),
    Reason(
        _SECTION,
        AgentReason.WEIGHTS_CHANGED,
        "A file of the model that some of the artifact's device memory is read from is not in this pod, cannot be read "
        "by the worker, or is another than at the capture.",
        _CAPTURE_AGAIN + " Or give the pod the volume with the model that was captured. `capture.weights=Stored` has "
        "later captures store all device memory.",
        "The artifact stores no bytes that a safetensors file on the worker's volumes has. Nothing was touched, unless "
        "the file was changed while it was read: then the restored processes were ended.",
    ),
    Reason(
        _SECTION,
        AgentReason.ROOTFS_TOO_LARGE,
        "The worker changed more in its image's files than a capture takes along.",
        "Keep such data on a persistent volume or in the image, name what a restored worker does not need in "
        "`config.overlay.exclusions`, or raise `capture.rootfsLimit`.",
        "The message names the largest file, or a folder that is more than 500 folders deep or of which the path has "
        "more than 3800 bytes. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        _SECTION,
        AgentReason.OVERLAY_UNSUPPORTED,
        "The container runtime's overlay uses `redirect_dir` or `metacopy`, whose changes cannot be read.",
        "Turn both off for the runtime.",
    ),
    Reason(
        _SECTION,
        AgentReason.ROOTFS_UNREADABLE,
        "The container's changed files could not be read on the node; the message has the path.",
        "Look whether the runtime uses another snapshotter than overlayfs.",
    ),
    Reason(
        _SECTION,
        AgentReason.FILES_FAILED,
        "The worker's files could not be read, or not be put back into the container.",
        "Look whether its file system is read-only or full; the message says which file.",
    ),
    Reason(
        _SECTION,
        AgentReason.TREE_MISSING,
        "CRIU ended well but the worker is not there.",
        "Look at the agent's log and report it.",
    ),
    Reason(
        _SECTION,
        AgentReason.DUMP_FAILED,
        "CRIU could not capture the worker; the message has its first errors.",
        "Look for open GPU devices, io_uring and sockets of unusual kinds: they are common causes.",
        "The documentation of CRIU explains most errors.",
    ),
    Reason(
        _SECTION,
        AgentReason.RESTORE_FAILED,
        "CRIU could not restore the worker; the message has its first errors.",
        _CAPTURE_AGAIN + " Report it if that does not help.",
        "Pods keep starting cold meanwhile.",
    ),
    Reason(
        _SECTION,
        AgentReason.CRIU_MISSING,
        "CRIU does not run on the node.",
        "Use an agent image that is whole and made for the node's architecture.",
    ),
    Reason(
        _SECTION,
        AgentReason.CRIU_TOO_OLD,
        "The agent's CRIU is older than this system needs.",
        "Use the agent image of this release.",
    ),
    Reason(
        _SECTION,
        AgentReason.WORK_UNWRITABLE,
        "The agent could not make its scratch folder: its disk on the node is full or read-only.",
        "Make room on the node's disk, or look why it is read-only; then delete the pod, or capture again.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_MISSING,
        "The agent found no CUDA driver on the node, or the driver showed no device.",
        "Check the node's driver (`nvidia-smi`), and that the agent's pod sees it.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_UNSUPPORTED,
        "The driver cannot checkpoint or restore this process.",
        (
            "Look for memory shared between GPUs, the usual cause: it is kept with device memory outside the image "
            "alone (docs/device-memory.md); with NCCL in the image, `NCCL_P2P_DISABLE=1` and "
            "`NCCL_CUMEM_HOST_ENABLE=0` together avoid it."
        ),
        "Managed memory (`cudaMallocManaged`) is never checkpointed: allocate by `cudaMalloc`.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_MEMORY,
        "The device had too little free memory for the worker's state.",
        "See what else runs on that GPU.",
        "A process whose restore failed this way cannot be restored again: the pod starts cold.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_BUSY,
        "The driver did not answer in time, usually because kernels of the worker were still running; or the worker "
        "was capturing a CUDA graph, which a snapshot would have spoiled.",
        "Capture the worker when it is idle, or allow more time.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_FAILED,
        "A call of the CUDA driver failed.",
        "Read the message: it names the call, the process and the driver's error.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_MISMATCH,
        "The pod's GPUs or the node's driver are not those of the capture.",
        "Keep these pods on nodes with the same GPU models and driver, or capture again.",
        "The message names both sides. The driver's library is mapped into the worker, so its version must be the "
        "same; the GPUs must be of the same models, and as many.",
    ),
    Reason(
        _SECTION,
        AgentReason.GPU_DRIVER_DENIED,
        "The node's driver is on the list of those that hang a node or end a worker, so it was not asked for anything.",
        "Install another driver on the node, or keep these pods on nodes with another one.",
        "The message names the driver, what happens with it, and the public report. The list is the value "
        "`gpu.deniedDrivers`: take an entry out if you have tried that driver. A restore becomes a cold start, and "
        "nothing was touched. An automatic checkpoint is tried again, since the next attempt may run on a node with "
        f"another driver: `kubectl get nodes -L {keys.LABEL_GPU_DRIVER}` shows them.",
    ),
    Reason(
        _SECTION,
        AgentReason.MEMORY_LIMIT,
        "The container's memory limit cannot hold the worker with its device memory.",
        "Raise `resources.limits.memory` by what the message says.",
        "A checkpoint moves device memory into the memory of the worker's processes, where the container's limit "
        f"counts it, and a restore starts with it there. Nothing was touched. At a restore: {_BYPASS}",
    ),
    Reason(
        _SECTION,
        AgentReason.PROOF_FAILED,
        "The artifact was written, and the worker does not run when it is restored from it.",
        "Read the message and the log of the capture pod; if only the proof is at fault, set `capture.proof=Read`.",
        "After it has published an artifact the agent restores it in the very container that it was captured in, waits "
        "until the worker's own HTTP or TCP probe passes (a worker without one is not woken), and ends it. A worker "
        "that does not come back there comes back nowhere, so the artifact is removed and the checkpoint fails: later "
        "pods start cold.",
    ),
    Reason(
        _SECTION,
        AgentReason.CANARY_FAILED,
        "The worker runs and does not answer its canary as it should.",
        "Ask it yourself with what the annotation says; a restore's pod has started cold, its answer is the right one.",
        f"Annotation `{keys.ANN_CANARY}` names a request, or a command that is run in the container, and what its "
        "answer must be ([operating](operating.md)). At a capture the worker itself failed it, and nothing was "
        "touched. At a restore the restored worker did: it was ended before it served a client. A canary that names "
        "`same` needs a checkpoint that was captured with it, and a command a `snapshot-standby` that can run it.",
    ),
    Reason(
        _SECTION,
        AgentReason.INTERNAL_ERROR,
        "An unexpected error; the agent's log has the traceback.",
        "Please report it.",
    ),
)

AGENT: Final[Mapping[str, Reason]] = {reason.code: reason for reason in AGENT_REASONS}
"""By ``AgentReason``."""
