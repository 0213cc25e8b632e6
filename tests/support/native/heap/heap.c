/* Holds a large heap of whatever allocator it runs with; once a file says so, frees, forks, moves and allocates.
 *
 * heap MIB BLOCKS SECONDS: fills MIB, says "warm", waits for a file, and says what of the memory that it kept
 * differs, and how many of so many blocks of calloc were not zeros, SECONDS after it has freed half of its heap.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, REGION = 16 << 20, QUARTER = REGION / 4, CLASSES = 6, MOST = 4000000, LARGE = 600000 };
static const size_t SIZES[CLASSES] = {104, 504, 2000, 9000, 70000, LARGE};

struct block {
    uint64_t *at;
    size_t size;
};

static struct block kept[MOST];
static long count, differences;

/* Reads are volatile: a compiler knows what calloc and a write just before give. */
static long wrong(const volatile uint64_t *at, size_t size, uint64_t seed) {
    long found = 0;
    for (size_t i = 0; i < size / sizeof *at; i++) found += at[i] != (seed ? seed * (i + 1) : 0);
    return found != 0;
}

static void fill(volatile uint64_t *at, size_t size, uint64_t seed) {
    for (size_t i = 0; i < size / sizeof *at; i++) at[i] = seed * (i + 1);
}

/* As many bytes of each size, in turn. */
static void hold(size_t limit) {
    size_t total = 0, used[CLASSES] = {0};
    while (total < limit && count < MOST) {
        int class = 0;
        for (int i = 1; i < CLASSES; i++)
            if (used[i] < used[class]) class = i;
        struct block *made = &kept[count++];
        *made = (struct block){malloc(SIZES[class]), SIZES[class]};
        fill(made->at, made->size, (uint64_t)count);
        used[class] += made->size;
        total += made->size;
    }
}

static void free_half(void) {
    for (long i = 1; i < count; i += 2) {
        free(kept[i].at);
        kept[i].at = NULL;
    }
}

static long check_kept(void) {
    long found = 0;
    for (long i = 0; i < count; i += 2) found += wrong(kept[i].at, kept[i].size, (uint64_t)i + 1);
    return found;
}

static void check_in_child(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) _exit(check_kept() != 0);
    waitpid(child, &status, 0);
    differences += status != 0;
}

/* Large blocks are moved by mremap in some allocators. */
static void grow_large(void) {
    for (long i = 0; i < count; i += 2)
        if (kept[i].size == LARGE) kept[i].at = realloc(kept[i].at, (size_t)8 * LARGE);
}

static char *map_region(void) {
    char *region = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t page = 0; page < REGION / PAGE; page++) fill((uint64_t *)(region + page * PAGE), PAGE, page + 1);
    return region;
}

/* What was given back is what it was or zeros; what was thrown away is zeros; the rest is what it was: in its new place. */
static void move_region(char *region) {
    if (madvise(region, QUARTER, MADV_FREE) || madvise(region + QUARTER, QUARTER, MADV_DONTNEED)) differences++;
    region = mremap(region, REGION, 2 * REGION, MREMAP_MAYMOVE);
    for (size_t page = 0; page < REGION / PAGE; page++) {
        const uint64_t *at = (const uint64_t *)(region + page * PAGE);
        int zero = !wrong(at, PAGE, 0), old = !wrong(at, PAGE, page + 1);
        differences += page * PAGE < QUARTER ? !zero && !old : page * PAGE < 2 * QUARTER ? !zero : !old;
    }
    for (size_t at = REGION; at < 2 * REGION; at += PAGE) differences += wrong((uint64_t *)(region + at), PAGE, 0);
}

/* Allocators give memory back by and by, and many only while they are called. */
static void decay(int seconds) {
    for (int i = 0; i < 20 * seconds; i++) {
        for (int class = 0; class < CLASSES; class++) {
            char *volatile block = malloc(SIZES[class]);
            free(block);
        }
        usleep(50000);
    }
}

static long count_dirty(long blocks) {
    long dirty = 0;
    uint64_t **made = malloc((size_t)blocks * sizeof *made);
    for (long i = 0; i < blocks; i++) {
        size_t size = (size_t)(i % 1000 ? 16 + i % 40 * 8 : 100000);
        made[i] = calloc(1, size);
        dirty += wrong(made[i], size, 0);
        fill(made[i], size, (uint64_t)i + 1);
    }
    for (long i = 0; i < blocks; i++)
        differences += wrong(made[i], (size_t)(i % 1000 ? 16 + i % 40 * 8 : 100000), (uint64_t)i + 1);
    return dirty;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    hold((size_t)atol(argv[1]) << 20);
    char *region = map_region();
    printf("warm\n");
    fflush(stdout);
    while (access("/snapshot-control/go", F_OK) != 0) usleep(500);
    move_region(region);
    free_half();
    check_in_child();
    grow_large();
    decay(atoi(argv[3]));
    long dirty = count_dirty(atol(argv[2]));
    differences += check_kept();
    printf("%ld differences, %ld of %s blocks dirty\n", differences, dirty, argv[2]);
    return 0;
}
