"""What is the new pod's in the restored worker, or not there any more."""

from __future__ import annotations

from typing import Final

from contract.remedies.kinds.kind import Fate, Kind

_LOST: Final = "tests/node/engine/state/test_kinds_of_state.py::test_it_is_reset"

LOST: Final = (
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
        "tests/node/workers/devices/test_toolkit_pods.py::test_a_worker_that_had_not_used_the_driver_finds_the_nodes_own",
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
        "tests/node/engine/state/test_random_numbers.py::test_replicas_draw_numbers_of_their_own",
    ),
    Kind(
        "Random bytes of the kernel (getrandom, /dev/urandom, uuid4)",
        Fate.RENEWED,
        "differ by themselves",
        "tests/node/engine/state/test_random_numbers.py::test_what_the_c_library_draws_without_a_system_call_differs",
    ),
    Kind(
        "TCP connections to other pods, containers and hosts; those of which one end is closed and has more to send, "
        "that both ends have shut down, or of a socket to itself",
        Fate.RESET,
        "reading gives the end of the stream, **without what had come and was not read**: a message that ends with its "
        "connection looks whole. The report lists them; connect again",
        "tests/node/engine/state/test_connections.py::test_a_connection_to_another_container_of_the_pod_is_closed",
    ),
    Kind(
        "TCP connections that were not accepted yet, such as a probe's, or that are being made",
        Fate.RESET,
        "the client sees a reset and tries again; a `connect` that blocks is made once more, and one that does not "
        "looks as if it had been made and cut",
        "tests/node/engine/state/test_connections.py::test_a_probe_on_its_way_fails_no_capture",
    ),
    Kind(
        "Of System V objects: times, and the processes that made or used them last (`cpid`, `lpid`, GETPID)",
        Fate.RESET,
        "as if they were made, and the used ones used, at the restore, by no process of the worker; semaphores that "
        "were never used still have no time of use (`sem_otime`)",
        _LOST,
    ),
    Kind(
        "Keys in kernel keyrings",
        Fate.RESET,
        "requests fail with ENOKEY; add them again in a hook",
        _LOST,
    ),
    Kind(
        "Slice of the scheduler (sched_runtime), I/O priority in real time, processor affinity if the new container "
        "lacks a processor, memory policy (NUMA), PR_SET_TSC, personality (`setarch`), mlockall for memory to come, "
        "MLOCK_ONFAULT, merging of memory (PR_SET_MEMORY_MERGE), PR_THP_DISABLE_EXCEPT_ADVISED, PR_MCE_KILL, "
        "coredump_filter; attributes of files that chattr shows, and extended ones other than user.* and ACLs, "
        "capabilities of programs among them",
        Fate.RESET,
        "the defaults; set them again in a hook",
        _LOST,
    ),
    Kind(
        "What waits to be read: datagrams in a UDP socket, urgent data of TCP, that it is urgent of a Unix socket, an "
        "error of a socket, such as a connection's reset, events of inotify; of a datagram in a Unix socket the "
        "sender's name; all datagrams in one that hold an empty one among them. That a UDP socket was shut for reading",
        Fate.RESET,
        "they are lost; look at files again in a hook",
        _LOST,
    ),
    Kind(
        "Options of sockets but for SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_LINGER, "
        "SO_MARK, SO_PRIORITY, SO_BINDTODEVICE, sizes of buffers, time-outs, filters, IP_TOS, IP_TTL, IP_PKTINFO, "
        "IP_FREEBIND, IPV6_V6ONLY, IPV6_RECVPKTINFO, TCP_NODELAY, TCP_CORK, TCP_KEEP*: so TCP_USER_TIMEOUT, "
        "TCP_FASTOPEN, TCP_CONGESTION, SO_TIMESTAMP, SO_PEEK_OFF, IP_RECVERR, IP_MTU_DISCOVER, UDP_GRO; the program "
        "that shares out connections of SO_REUSEPORT, dnotify (F_NOTIFY), signals for a FIFO (O_ASYNC)",
        Fate.RESET,
        "the defaults; set them again in a hook",
        _LOST,
    ),
    Kind(
        "The process and the user at the other end of a Unix connection (SO_PEERCRED), where that is another one",
        Fate.RESET,
        "**the restored worker reads itself and its own user**: remember what was read when the connection was "
        "accepted",
        _LOST,
    ),
    Kind(
        "Names of both ends of a Unix stream that is connected (getsockname, getpeername); that the peer of a "
        "connected datagram socket was closed",
        Fate.RESET,
        "the names are empty: remember them; sending fails with ENOTCONN rather than ECONNREFUSED",
        _LOST,
    ),
    Kind(
        "The name that a Unix socket was bound to, if its file was renamed since (supervisord's)",
        Fate.RESET,
        "getsockname gives the name that the file has, by which it is reached as before",
        _LOST,
    ),
    Kind(
        "With which bytes of a Unix stream a descriptor comes that waits in it (SCM_RIGHTS), if other data waits "
        "before",
        Fate.RESET,
        "it comes with the first of them, and **is lost if these are read without asking for descriptors**: receive "
        "each part with room for them (recvmsg), or all before the snapshot",
        _LOST,
    ),
    Kind(
        "How far a folder was read (opendir, scandir), if it was not read to its end",
        Fate.RESET,
        "**some names come twice, others not at all**: read folders in one go, or begin again in a hook (rewinddir)",
        _LOST,
    ),
    Kind(
        "The controlling terminal of processes that do not lead their session, such as what a shell has started",
        Fate.RESET,
        "they have none: /dev/tty cannot be opened, and a shell among them has no job control. Open it by its name",
        _LOST,
    ),
    Kind(
        "Data that a UDP socket holds back (MSG_MORE), an unfinished line in a terminal, its exclusive use (TIOCEXCL)",
        Fate.RESET,
        "lost: what follows is sent, or read, without",
        _LOST,
    ),
    Kind(
        "IN_ONESHOT and IN_EXCL_UNLINK of inotify; that an entry of epoll is used up (EPOLLONESHOT)",
        Fate.RESET,
        "more events come than were asked for: of epoll one EPOLLHUP or EPOLLERR, if the file is in that state",
        _LOST,
    ),
    Kind(
        "What a parent has seen of children that stopped or continued",
        Fate.RESET,
        "it sees once more that a child is stopped, and of every other child that it has continued (SIGCHLD, and "
        "`waitpid` with WUNTRACED or WCONTINUED): as if all had been stopped for a moment",
        _LOST,
    ),
    Kind(
        "A wait that is under way and has a limit: nanosleep, poll, epoll_wait, sigtimedwait, SO_RCVTIMEO, FUTEX_WAIT; "
        "not select. On other machines than x86-64 epoll_wait and sigwaitinfo without one too",
        Fate.RESET,
        "it ends early with EINTR, as by a signal; Python's own functions wait for the rest by themselves",
        _LOST,
    ),
    Kind(
        "How often a timer has expired since it was asked for: of timerfd and, as its overrun, of timer_create",
        Fate.RESET,
        "one expiry is left of several: look at the clock, rather than count",
        _LOST,
    ),
    Kind(
        "Whose a child was that has ended and was not waited for (`si_uid`); who sent a message to a Unix socket that "
        "did not ask for that (SO_PASSCRED) when it came",
        Fate.RESET,
        "user 0; user 65534",
        _LOST,
    ),
    Kind(
        "Which thread of its parent a process was started by, as `__WNOTHREAD` and a parent-death signal have it",
        Fate.RESET,
        "the first thread; wait for children without that option",
        _LOST,
    ),
    Kind(
        "A write to a full pipe or socket that is under way, and a read with MSG_WAITALL",
        Fate.RESET,
        "it ends early with the bytes that were moved so far, as by a signal; write or read the rest",
        _LOST,
    ),
    Kind(
        "Numbers of devices and inodes of files in the image and in emptyDirs",
        Fate.RESET,
        "others, as for copies of the files. What compares inodes takes a file for another one: `tail -F` and watchers "
        "that poll see all files replaced, and `s6-svscanctl -n` ends the services that run and starts them again. A "
        "database of SQLite that is still empty, encrypted as a whole, or in a file that the agent may not read (NFS "
        "with root_squash) can then only be read by connections that were open: open it again",
        _LOST,
    ),
    Kind(
        "ACLs of files of bound Unix sockets; ACLs and user.* attributes of deleted files that are open and of memfd, "
        "and nanoseconds of their times; times before 1970",
        Fate.RESET,
        "mode and owner alone, whole microseconds, and 1970; set them again in a hook",
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
        "begins again with the restore, as in a new process: `time.process_time()` goes back. psutil and Java know a "
        "process by its start, and take those that they knew before for ended: `Process.destroy` of Java does nothing. "
        "Signal them by their number, or look them up again in a hook",
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
        "What a privileged worker set up in its pod: host name, addresses, routes, kernel parameters (sysctl), "
        "control groups with their limits",
        Fate.RESET,
        "the new pod's own; set them again in a hook",
        _LOST,
    ),
    Kind(
        "Sealed mappings (mseal), what a thread was forbidden to speculate about (PR_SET_SPECULATION_CTRL)",
        Fate.RESET,
        "**the restored worker is without it**: apply it in a hook",
        _LOST,
    ),
    Kind(
        "Dispatch of system calls (PR_SET_SYSCALL_USER_DISPATCH), a local descriptor table (modify_ldt)",
        Fate.RESET,
        "the process has neither; set them again in a hook",
        _LOST,
    ),
    Kind(
        "A Landlock sandbox that cannot be seen: of a thread that is not the first of its process, of a process that "
        "has become another user, under a profile of AppArmor that is none of a runtime's, on other machines than "
        "x86-64",
        Fate.RESET,
        "**the restored worker is without it**: apply it in a hook",
        _LOST,
    ),
    Kind(
        "CLOCK_REALTIME",
        Fate.RESET,
        "the node's: it jumps by the time between capture and restore, as after a suspended laptop",
        "tests/node/engine/state/test_time.py::test_every_timer_goes_on",
    ),
    Kind(
        "Monotonic clocks of commands executed in the container (exec probes, kubectl exec)",
        Fate.RESET,
        "the node's, while the worker's go on from the capture; [after-a-restore.md](after-a-restore.md#clocks), "
        "[what was tried](decisions/0027-executed-commands-keep-the-nodes-clock.md)",
        "tests/node/engine/state/test_time.py::test_the_worker_alone_keeps_its_clocks",
    ),
)
