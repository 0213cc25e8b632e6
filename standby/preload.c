/* Loaded before criu, for what it takes for granted and containers or nodes do not give it:
 *
 * - another process's resource limits: prlimit takes CAP_SYS_RESOURCE for a process of another user, and root lacks that
 *   on some nodes (nested containers, hardened virtual machines). The same numbers stand in /proc/PID/limits.
 * - a /tmp that can be written: with a read-only root file system there is none, but /dev/shm is in every container.
 * - a /run that can be trusted: criu believes what /run/criu.kdat says about the kernel, and the container may have
 *   written it. It is never read.
 *
 * Freestanding, so that it needs no library of the place it is built at.
 */
#define O_RDONLY 0
#define O_CLOEXEC 02000000
#define EPERM 1
#define ENOENT 2
#define EEXIST 17
#define UNLIMITED (~0UL)

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_close = 3, SYS_openat = 257, SYS_mkdirat = 258, SYS_prlimit64 = 302, SYS_getrandom = 318 };
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
enum { SYS_read = 63, SYS_close = 57, SYS_openat = 56, SYS_mkdirat = 34, SYS_prlimit64 = 261, SYS_getrandom = 278 };
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

static void path_of(int pid, char *path) {
    char digits[12];
    int count = 0;
    for (; pid; pid /= 10) digits[count++] = (char)('0' + pid % 10);
    for (const char *c = "/proc/"; *c; c++) *path++ = *c;
    while (count) *path++ = digits[--count];
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

/* criu makes this call through syscall(); arguments beyond the register ones of a variadic call lie where plain ones do. */
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

/* The mode, variadic in the header, lies where a plain third argument does. */
int open64(const char *path, int flags, unsigned mode) {
    static const char cache[] = "/run/criu.kdat";
    int same = 0;
    while (path[same] && path[same] == cache[same]) same++;
    int is_cache = same == (int)sizeof cache - 1 && !path[same] && !(flags & 3);
    long result = is_cache ? -ENOENT : call(SYS_openat, -100, (long)path, flags, mode, 0, 0);
    if (result >= 0) return (int)result;
    *__errno_location() = (int)-result;
    return -1;
}
