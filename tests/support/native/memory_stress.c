/* Changes its memory in every way that a page server must follow, as soon as it is restored, and checks each page.
 *
 * memory-stress MIB THREADS SECONDS: fills MIB of memory, says "warm", waits for its restore, then works for SECONDS and
 * says "equal after N steps", or what differs. Every page is checked against what this program last put there.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, SLOT = PAGES * PAGE, WORDS = PAGE / 8 };

struct slot {
    char *at;
    int parted; /* a part was mapped again: until all pages are in that is another mapping, and only one can be moved */
    uint64_t expected[PAGES]; /* each word of the page; 0 for a page of zeros */
};

struct worker {
    struct slot *slots;
    int count;
    unsigned seed;
    long steps, forks;
    char *wiped; /* memory that a child finds empty */
};

static volatile int stop, differences;
static int seconds;

static void differs(const char *what, const struct slot *slot, int page, uint64_t found) {
    char line[160];
    int n = snprintf(line, sizeof line, "DIFFERS after %s: page %d at %p has %llx, expected %llx\n", what, page,
                     (void *)slot->at, (unsigned long long)found, (unsigned long long)slot->expected[page]);
    if (write(1, line, (size_t)n) < 0) _exit(3);
    differences = stop = 1;
}

static void write_page(struct slot *slot, int page, uint64_t value) {
    uint64_t *words = (uint64_t *)(slot->at + page * PAGE);
    for (int i = 0; i < WORDS; i++) words[i] = value;
    slot->expected[page] = value;
}

static int check_page(const struct slot *slot, int page, const char *what) {
    const uint64_t *words = (const uint64_t *)(slot->at + page * PAGE);
    for (int i = 0; i < WORDS; i++)
        if (words[i] != slot->expected[page]) {
            differs(what, slot, page, words[i]);
            return 0;
        }
    return 1;
}

static int check(const struct slot *slot, const char *what) {
    for (int page = 0; page < PAGES; page++)
        if (!check_page(slot, page, what)) return 0;
    return 1;
}

static void zeros(struct slot *slot, int from, int count) {
    for (int page = from; page < from + count; page++) slot->expected[page] = 0;
}

static void move(struct slot *slot, int keep_old) {
    if (slot->parted) return;
    char *old = slot->at;
    char *place = mmap(NULL, SLOT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep_old ? MREMAP_DONTUNMAP : 0);
    if (mremap(old, SLOT, SLOT, flags, place) != place) _exit(4);
    slot->at = place;
    if (!keep_old) return;
    for (int i = 0; i < SLOT; i += PAGE)
        if (old[i]) differs("a move that keeps the old mapping", slot, i / PAGE, (uint64_t)old[i]);
    munmap(old, SLOT);
}

static void fork_and_check(struct worker *w) {
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < w->count && !stop; i++) check(&w->slots[i], "a fork");
        for (int i = 0; i < SLOT; i += PAGE)
            if (w->wiped[i]) _exit(5);
        _exit(differences);
    }
    int status = 0;
    waitpid(child, &status, 0);
    w->forks++;
    if (status) {
        struct slot none = {.at = w->wiped};
        differs("a fork, in the child", &none, 0, (uint64_t)status);
    }
}

static void change(struct worker *w, struct slot *slot) {
    int from = rand_r(&w->seed) % PAGES, count = 1 + rand_r(&w->seed) % (PAGES - from);
    char *at = slot->at + from * PAGE;
    size_t size = (size_t)count * PAGE;
    switch (rand_r(&w->seed) % 9) {
    case 0: write_page(slot, from, ((uint64_t)w->seed << 20) + (uint64_t)w->steps + 1); break;
    case 1:
        madvise(at, size, MADV_DONTNEED);
        zeros(slot, from, count);
        break;
    case 2: move(slot, 0); break;
    case 3: move(slot, 1); break;
    case 4:
        munmap(at, size);
        slot->parted = 1;
        if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) _exit(4);
        zeros(slot, from, count);
        break;
    case 5:
        slot->parted = 1;
        if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) _exit(4);
        zeros(slot, from, count);
        break;
    case 6:
        mprotect(at, size, PROT_READ);
        check(slot, "a change of protection");
        mprotect(at, size, PROT_READ | PROT_WRITE);
        break;
    case 7:
        madvise(at, size, MADV_FREE);
        for (int page = from; page < from + count; page++) write_page(slot, page, (uint64_t)w->steps + 1);
        break;
    case 8:
        if (w->steps % 11 == 0) fork_and_check(w);
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    time_t end = time(NULL) + seconds;
    while (!stop && time(NULL) < end) {
        struct slot *slot = &w->slots[rand_r(&w->seed) % w->count];
        change(w, slot);
        check(slot, "a step");
        w->steps++;
    }
    for (int i = 0; i < w->count && !stop; i++) check(&w->slots[i], "the last step");
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int slots = atoi(argv[1]) * 4, threads = atoi(argv[2]);
    seconds = atoi(argv[3]);
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    struct slot *all = calloc((size_t)slots, sizeof *all);
    for (int i = 0; i < slots; i++) {
        all[i].at = mmap(NULL, SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int page = 0; page < PAGES; page++)
            if ((page + i) % 7) write_page(&all[i], page, ((uint64_t)(i + 1) << 32) + (uint64_t)page);
    }
    for (int i = 0; i < threads; i++) {
        char *wiped = mmap(NULL, SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(wiped, 'w', SLOT);
        if (madvise(wiped, SLOT, MADV_WIPEONFORK) != 0) return 4;
        workers[i] = (struct worker){all + i * (slots / threads), slots / threads, (unsigned)i + 1, 0, 0, wiped};
    }
    printf("warm\n");
    fflush(stdout);
    while (access("/snapshot-control/restore-complete", F_OK) != 0) usleep(500);
    pthread_t started[64];
    for (int i = 0; i < threads; i++) pthread_create(&started[i], NULL, work, &workers[i]);
    long steps = 0, forks = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(started[i], NULL);
        steps += workers[i].steps;
        forks += workers[i].forks;
    }
    if (!differences) printf("equal after %ld steps and %ld forks\n", steps, forks);
    fflush(stdout);
    return differences;
}
