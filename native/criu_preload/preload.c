/* Loaded before criu. First it keeps criu away from the container's files until everything of criu is loaded:
 *
 * - criu starts in the agent's mount namespace: the loader, its list of preloads and its cache, every library and what
 *   its constructors read are the agent's. Only then, in place of main, this enters the container's mount namespace.
 * - from there on nothing is loaded, run or read as configuration: dlopen, exec and fopen of what is no /proc or /sys
 *   fail as if nothing were there.
 *
 * And it gives criu what it takes for granted, and containers or nodes do not have:
 *
 * - another process's resource limits: prlimit takes CAP_SYS_RESOURCE for a process of another user, and root lacks that
 *   on some nodes (nested containers, hardened virtual machines). The same numbers stand in /proc/PID/limits.
 * - a /tmp that can be written: with a read-only root file system there is none, but /dev/shm is in every container.
 * - AppArmor, if the agent says so: criu takes it for on where its securityfs is, and a container does not show that.
 *   The agent has written the container's profile into the images; nothing else of AppArmor is asked of criu.
 * - a /run that can be trusted: criu believes what /run/criu.kdat says about the kernel, and the container may have
 *   written it. It is never read.
 * - threads without registers that it does not know (AMX's tiles, APX): its room for their state ends before them, and it
 *   would drop them and say nothing. Its dump fails instead: Device or resource busy (agent/criu/driver.py).
 * - a root of the tree that is pid 1, to which a process comes whose parent ends: criu restores a process of a session
 *   whose leader has ended as the child of one that ends. With standby as pid 1 it would leave the worker's tree.
 *
 * Freestanding, so that it needs no library of the place it is built at.
 */
#define O_RDONLY 0
#define O_RDWR 2
#define O_CLOEXEC 02000000
#define EPERM 1
#define ENOENT 2
#define EEXIST 17
#define UNLIMITED (~0UL)
#define CLONE_NEWNS 0x20000
#define PR_SET_CHILD_SUBREAPER 36
#define PROC_SUPER_MAGIC 0x9fa0
#define RTLD_NEXT ((void *)-1L)
#define EXIT_ENTER 4 /* agent/criu/nsenter.py */
#define EBUSY 16
#define PTRACE_GETREGSET 0x4204
#define NT_X86_XSTATE 0x202
#define XSTATE_HEADER 512  /* bytes before the bits of what is in use (Intel's manual, XSAVE area) */
#define CARRIED 0x2ffUL    /* x87 to AVX-512 and PKRU: those that criu has room for */

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_close = 3, SYS_openat = 257, SYS_mkdirat = 258, SYS_prlimit64 = 302, SYS_getrandom = 318,
       SYS_fstat = 5, SYS_newfstatat = 262, SYS_faccessat = 269, SYS_statfs = 137, SYS_setns = 308, SYS_exit_group = 231,
       SYS_getpid = 39, SYS_getppid = 110, SYS_setsid = 112, SYS_prctl = 157 };
static long call(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_read = 63, SYS_close = 57, SYS_openat = 56, SYS_mkdirat = 34, SYS_prlimit64 = 261, SYS_getrandom = 278,
       SYS_fstat = 80, SYS_newfstatat = 79, SYS_faccessat = 48, SYS_statfs = 43, SYS_setns = 268, SYS_exit_group = 94,
       SYS_getpid = 172, SYS_getppid = 173, SYS_setsid = 157, SYS_prctl = 167 };
static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#endif

struct limit {
    unsigned long soft, hard;
};

extern int *__errno_location(void);

extern void *dlsym(void *handle, const char *name);

typedef int (*main_function)(int, char **, char **);
typedef int (*start_function)(main_function, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
typedef void *(*fopen_function)(const char *, const char *);

static main_function criu_main;
static long criu;          /* its first process */
static int inside;         /* whether this process has entered the container's mount namespace */
static int apparmor;       /* whether criu is to find AppArmor */
static int node_null = -1; /* /dev/null of the agent: the container's may be anything */

static const char *after(const char *text, const char *prefix) {
    while (*prefix && *text == *prefix) text++, prefix++;
    return *prefix ? (const char *)0 : text;
}

static int number_in(char **environment, const char *name) {
    for (; *environment; environment++) {
        const char *value = after(*environment, name);
        if (!value || *value++ != '=' || !*value) continue;
        int number = 0;
        for (; *value >= '0' && *value <= '9'; value++) number = number * 10 + (*value - '0');
        return *value ? -1 : number;
    }
    return -1;
}

static char *decimal(char *to, int number) {
    char digits[12];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *to++ = digits[--count];
    *to = 0;
    return to;
}

/* Descriptors are handed to criu as /proc/self/fd/N: /proc must be the kernel's, and show this very process. */
static int proc_is_real(int fd) {
    long filesystem[32], ours[32], shown[32]; /* struct statfs begins with its type, struct stat with device and inode */
    char path[32] = "/proc/self/fd/";
    decimal(path + 14, fd);
    return call(SYS_statfs, (long)"/proc", (long)filesystem, 0, 0, 0, 0) == 0 && filesystem[0] == PROC_SUPER_MAGIC &&
           call(SYS_fstat, fd, (long)ours, 0, 0, 0, 0) == 0 &&
           call(SYS_newfstatat, -100, (long)path, (long)shown, 0, 0, 0) == 0 && ours[0] == shown[0] &&
           ours[1] == shown[1];
}

static int main_inside(int count, char **arguments, char **environment) {
    int fd = number_in(environment, "SNAPSHOT_ENTER_MOUNT_NAMESPACE");
    if (fd >= 0) {
        node_null = (int)call(SYS_openat, -100, (long)"/dev/null", O_RDWR | O_CLOEXEC, 0, 0, 0);
        /* Root and working directory become those of the namespace. */
        if (call(SYS_setns, fd, CLONE_NEWNS, 0, 0, 0, 0) != 0 || !proc_is_real(fd))
            call(SYS_exit_group, EXIT_ENTER, 0, 0, 0, 0, 0);
        call(SYS_close, fd, 0, 0, 0, 0, 0);
        apparmor = number_in(environment, "SNAPSHOT_APPARMOR") == 1;
        criu = call(SYS_getpid, 0, 0, 0, 0, 0, 0);
        inside = 1;
    }
    return criu_main(count, arguments, environment);
}

/* The C library calls a program's main from here, once the constructors of every library have run. */
int __libc_start_main(main_function program, int count, char **arguments, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
    start_function next = (start_function)dlsym(RTLD_NEXT, "__libc_start_main");
    criu_main = program;
    return next(main_inside, count, arguments, init, fini, loader_fini, stack_end);
}

static int is_kernels(const char *path) { return after(path, "/proc/") || after(path, "/sys/"); }

static void *open_stream(const char *name, const char *path, const char *mode) {
    if (!inside || is_kernels(path)) return ((fopen_function)dlsym(RTLD_NEXT, name))(path, mode);
    *__errno_location() = ENOENT;
    return (void *)0;
}

int access(const char *path, int mode) {
    const char *rest = after(path, "/sys/kernel/security/apparmor");
    long result = inside && rest && !*rest ? (apparmor ? 0 : -ENOENT) : call(SYS_faccessat, -100, (long)path, mode, 0, 0, 0);
    if (result == 0) return 0;
    *__errno_location() = (int)-result;
    return -1;
}

void *fopen(const char *path, const char *mode) { return open_stream("fopen", path, mode); }
void *fopen64(const char *path, const char *mode) { return open_stream("fopen64", path, mode); }

/* A plug-in or a library of the container's would run with the node's rights; no restore needs one. */
void *dlopen(const char *path, int flags) {
    (void)flags;
    (void)path;
    return (void *)0;
}

static int no_program(void) {
    *__errno_location() = ENOENT;
    return -1;
}

int execve(const char *path, char *const arguments[], char *const environment[]) {
    (void)path, (void)arguments, (void)environment;
    return no_program();
}
int execv(const char *path, char *const arguments[]) { return execve(path, arguments, (char *const *)0); }
int execvp(const char *file, char *const arguments[]) { return execve(file, arguments, (char *const *)0); }
int execlp(const char *file, const char *first, ...) { return execve(file, (char *const *)&first, (char *const *)0); }

#if defined(__x86_64__)
struct buffer {
    char *at;
    unsigned long length;
};
typedef long (*ptrace_function)(int, ...);

long ptrace(int request, int thread, void *address, void *data) {
    static ptrace_function next;
    if (!next) next = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
    long result = next(request, thread, address, data);
    if (result != 0 || request != PTRACE_GETREGSET || address != (void *)NT_X86_XSTATE) return result;
    const struct buffer *state = data;
    if (state->length < XSTATE_HEADER + 8 || !(*(const unsigned long *)(state->at + XSTATE_HEADER) & ~CARRIED)) return 0;
    *__errno_location() = EBUSY;
    return -1;
}
#endif

/* The root of a tree leads its session, and is the only child of criu's own that calls this before it has children. */
int setsid(void) {
    long result = call(SYS_setsid, 0, 0, 0, 0, 0, 0);
    if (result >= 0 && inside && call(SYS_getppid, 0, 0, 0, 0, 0, 0) == criu)
        call(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
    if (result >= 0) return (int)result;
    *__errno_location() = (int)-result;
    return -1;
}

static void path_of(int pid, char *path) {
    for (const char *c = "/proc/"; *c; c++) *path++ = *c;
    path = decimal(path, pid);
    for (const char *c = "/limits"; *c; c++) *path++ = *c;
    *path = 0;
}

/* A column: a number, or the word unlimited. */
static const char *column(const char *text, unsigned long *value) {
    while (*text == ' ') text++;
    *value = 0;
    if (*text == 'u') *value = UNLIMITED;
    for (; *text && *text != ' ' && *text != '\n'; text++)
        if (*text >= '0' && *text <= '9') *value = *value * 10 + (unsigned long)(*text - '0');
    return text;
}

static int from_proc(int pid, int resource, struct limit *old) {
    char path[32], text[4096];
    path_of(pid, path);
    long fd = call(SYS_openat, -100, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return 0;
    long n = call(SYS_read, fd, (long)text, sizeof text - 1, 0, 0, 0);
    call(SYS_close, fd, 0, 0, 0, 0, 0);
    text[n > 0 ? n : 0] = 0;
    const char *line = text;
    for (int i = 0; i <= resource; i++) { /* after the heading, one line a resource, in the kernel's order */
        while (*line && *line != '\n') line++;
        if (*line++ != '\n') return 0;
    }
    for (int i = 0; i < 25; i++) /* the name's column is 26 wide */
        if (!line[i]) return 0;
    column(column(line + 25, &old->soft), &old->hard);
    return 1;
}

/* criu makes this call through syscall(); arguments beyond the register ones of a variadic call are passed as plain ones are. */
long syscall(long n, long a, long b, long c, long d, long e, long f) {
    long result = call(n, a, b, c, d, e, f);
    if (n == SYS_prlimit64 && result == -EPERM && a && !c && d && from_proc((int)a, (int)b, (struct limit *)d)) return 0;
    if (result >= 0 || result < -4095) return result;
    *__errno_location() = (int)-result;
    return -1;
}

static long make_directory(char *template, int length) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    unsigned char random[6];
    for (int attempt = 0; attempt < 100; attempt++) {
        if (call(SYS_getrandom, (long)random, sizeof random, 0, 0, 0, 0) != sizeof random) return -EEXIST;
        for (int i = 0; i < 6; i++) template[length - 6 + i] = letters[random[i] % 32];
        long result = call(SYS_mkdirat, -100, (long)template, 0700, 0, 0, 0);
        if (result != -EEXIST) return result;
    }
    return -EEXIST;
}

/* The caller reads the name from where its template was, so the other place must not be longer. */
char *mkdtemp(char *template) {
    static const char elsewhere[] = "/dev/shm/cr.XXXXXX";
    int length = 0, under_tmp = 1;
    for (; template[length]; length++)
        if (length < 5 && template[length] != "/tmp/"[length]) under_tmp = 0;
    long result = length < 6 ? -EEXIST : make_directory(template, length);
    if (result < 0 && under_tmp && length >= (int)sizeof elsewhere - 1) {
        for (unsigned i = 0; i < sizeof elsewhere; i++) template[i] = elsewhere[i];
        result = make_directory(template, (int)sizeof elsewhere - 1);
    }
    if (result == 0) return template;
    *__errno_location() = (int)-result;
    return (char *)0;
}

static long open_inside(const char *path, int flags, unsigned mode) {
    const char *rest = after(path, "/dev/null");
    if (after(path, "/run/criu.kdat")) return -ENOENT;
    if (!rest || *rest) return call(SYS_openat, -100, (long)path, flags, mode, 0, 0);
    char ours[32] = "/proc/self/fd/";
    decimal(ours + 14, node_null);
    return call(SYS_openat, -100, (long)ours, flags, mode, 0, 0);
}

/* The mode, variadic in the header, is passed where a plain third argument is. */
int open64(const char *path, int flags, unsigned mode) {
    long result = inside ? open_inside(path, flags, mode) : call(SYS_openat, -100, (long)path, flags, mode, 0, 0);
    if (result >= 0) return (int)result;
    *__errno_location() = (int)-result;
    return -1;
}
