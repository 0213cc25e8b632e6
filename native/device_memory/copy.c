/* Saves all segments and fills them again, by several threads: each takes the next piece of the device that it works for,
 * through page-locked memory.
 *
 * A unit that is all zeros is neither stored nor read: a KV cache that was not used yet is most of many workers' memory.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "device_memory.h"

static struct {
    const struct driver *cuda;
    uint32_t units;
    const int *files;
    int loads; /* a load is under way, since the first part that was on the card or since it was asked for */
    int cleared; /* what is zeros is filled already */
    stream copies[MOST_DEVICES]; /* on which parts are copied */
    _Atomic(uint32_t) stored;
    _Atomic(result) error;
    _Atomic(const char *) failed;
} job;

/* Each copier has a file of its own, as a file system lets one writer of a file in at a time. */
static uint32_t *unit_places;
static uint32_t noted_units;
static int file_devices[COPIERS];

const uint32_t *saved_places(uint32_t *units) { return *units = unit_places ? noted_units : 0, unit_places; }

int device_of_file(uint32_t file) { return file < COPIERS ? file_devices[file] : -1; }

static void *map(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Keeps the first failure. Returns whether there is one. */
static int failed(result error, const char *what) {
    if (!error) return atomic_load(&job.failed) != NULL;
    const char *none = NULL;
    if (atomic_compare_exchange_strong(&job.failed, &none, what)) job.error = error;
    return 1;
}

static int begin(int discards) {
    job.cuda = driver();
    job.stored = 0;
    job.loads = job.cleared = 0;
    job.error = SUCCESS;
    job.failed = NULL;
    for (int i = 0; i < segment_count; i++)
        if (units_of(&segments[i])) failed(reach_segment(&segments[i]), "map its device memory to copy it");
    return cut_segments(&job.units, discards);
}

static struct outcome ended(void) {
    job.loads = 0;
    forget_parts();
    for (int i = 0; i < MOST_DEVICES; i++) {
        if (job.copies[i]) failed(job.cuda->cuStreamDestroy_v2(job.copies[i]), "end copying");
        job.copies[i] = NULL;
    }
    drop_pieces();
    for (int i = 0; i < segment_count; i++)
        if (units_of(&segments[i])) leave_reached(&segments[i]);
    return (struct outcome){.error = job.error, .failed = job.failed, .units = job.units, .stored = job.stored};
}

static struct outcome without_memory(void) {
    return (struct outcome){.error = OUT_OF_MEMORY, .failed = "make room for what it has to note"};
}

/* What one copier works with. */
struct copier {
    stream stream;
    event done[SLOTS];
    char *slots;
    int connection, slot, number, device;
    uint32_t stored; /* units in its file */
};

/* Page-locked: from other memory the driver copies at a fifth of the speed. */
static int open_copier(struct copier *mine) {
    const struct driver *cuda = job.cuda;
    if (failed(enter_device(mine->device), "enter the worker's context")) return -1;
    result error = cuda->cuMemHostRegister_v2(mine->slots, SLOTS * SLOT, 0);
    if (error) return failed(error, "lock its copying memory"), -1;
    error = cuda->cuStreamCreate(&mine->stream, STREAM_NON_BLOCKING);
    if (!error) return 0; /* whatever failed for others: this is taken back at the end */
    cuda->cuMemHostUnregister(mine->slots);
    return failed(error, "make a stream"), -1;
}

static void close_copier(struct copier *mine) {
    failed(job.cuda->cuStreamSynchronize(mine->stream), "end copying");
    job.cuda->cuStreamDestroy_v2(mine->stream);
    failed(job.cuda->cuMemHostUnregister(mine->slots), "unlock its copying memory");
}

static const struct piece *next_piece(const struct copier *mine) {
    return mine->device < 0 || atomic_load(&job.failed) ? NULL : next_piece_of(mine->device);
}

/* ------------------------------------------------------------------------------------------------------------- save */

static int is_zero(const char *at) {
    const uint64_t *words = (const uint64_t *)at;
    enum { BLOCK = 512 };
    for (size_t i = 0; i < UNIT / sizeof *words; i += BLOCK) {
        uint64_t any = 0;
        for (size_t k = 0; k < BLOCK; k++) any |= words[i + k];
        if (any) return 0;
    }
    return 1;
}

/* Waits until the agent has written what we last put into a slot. */
static int await_free(struct copier *mine, unsigned *busy) {
    while (*busy & 1u << mine->slot) {
        struct message message;
        int descriptor;
        if (!receive_message(mine->connection, &message, &descriptor, 1) || message.what != FREE) return -1;
        *busy &= ~(1u << (message.number % SLOTS));
    }
    return 0;
}

/* `first`: of the units, among those of the piece. */
static int save_slot(struct copier *mine, const struct piece *piece, uint32_t first, unsigned *busy) {
    if (await_free(mine, busy)) return failed(OUT_OF_MEMORY, "have what it saves written");
    const uint32_t left = piece->units - first, units = left < SLOT_UNITS ? left : SLOT_UNITS;
    char *slot = mine->slots + (size_t)mine->slot * SLOT;
    result error = job.cuda->cuMemcpyDtoHAsync_v2(slot, piece->at + first * UNIT, units * UNIT, mine->stream);
    if (failed(error, "copy device memory") || failed(job.cuda->cuStreamSynchronize(mine->stream), "copy device memory"))
        return 1;
    struct message message = {.what = DATA, .number = (uint32_t)mine->slot};
    for (uint32_t i = 0; i < units; i++)
        if (!is_zero(slot + i * UNIT)) message.b |= 1u << i;
    if (!message.b) return 0;
    message.a = mine->stored;
    for (uint32_t i = 0; i < units; i++)
        if (message.b & 1u << i)
            unit_places[piece->first + first + i] = 1 + mine->stored++ * COPIERS + (uint32_t)mine->number;
    if (send_message(mine->connection, &message)) return failed(OUT_OF_MEMORY, "have what it saves written");
    *busy |= 1u << mine->slot;
    mine->slot = (mine->slot + 1) % SLOTS;
    return 0;
}

static void save_pieces(struct copier *mine) {
    unsigned busy = 0;
    for (const struct piece *piece; (piece = next_piece(mine));)
        for (uint32_t done = 0; done < piece->units; done += SLOT_UNITS)
            if (save_slot(mine, piece, done, &busy)) return;
    job.stored += mine->stored;
    for (int i = 0; i < SLOTS; i++, mine->slot = (mine->slot + 1) % SLOTS)
        if (await_free(mine, &busy)) failed(OUT_OF_MEMORY, "have what it saves written");
}

/* The agent brings the memory that both see: one of ours could be cut short while it reads. */
static void save_by(int number) {
    struct copier mine = {.connection = connect_agent(), .number = number, .device = device_of_copier(number)};
    struct message message = {.what = HELLO, .number = (uint32_t)number};
    int ring = -1;
    name_device(mine.device, message.text);
    if (mine.connection < 0 || send_message(mine.connection, &message) ||
        !receive_message(mine.connection, &message, &ring, 1) || ring < 0 || message.what != RING) {
        failed(OUT_OF_MEMORY, "reach the agent");
    } else {
        mine.slots = mmap(NULL, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
        if (mine.slots == MAP_FAILED) failed(OUT_OF_MEMORY, "map its copying memory");
        else if (open_copier(&mine) == 0) save_pieces(&mine), close_copier(&mine);
        if (mine.slots != MAP_FAILED) munmap(mine.slots, SLOTS * SLOT);
    }
    if (ring >= 0) close(ring);
    if (mine.connection >= 0) close(mine.connection);
}

static uint64_t discardable_units(void) {
    uint64_t units = 0;
    for (int i = 0; i < segment_count; i++) units += segments[i].discardable ? units_of(&segments[i]) : 0;
    return units;
}

/* What is left out is noted as what is all zeros: a load makes it so. */
struct outcome save_segments(int discards) {
    if (unit_places) munmap(unit_places, (noted_units + 1) * sizeof *unit_places);
    unit_places = NULL;
    for (int i = 0; i < segment_count; i++) segments[i].loaded = 0;
    if (begin(discards)) return without_memory();
    noted_units = job.units;
    unit_places = map((noted_units + 1) * sizeof *unit_places);
    if (!unit_places) failed(OUT_OF_MEMORY, "make room for what it has to note");
    else if (!job.failed && !failed(await_kernels(), "wait for the worker's kernels")) run_copiers(save_by);
    for (int i = 0; i < COPIERS; i++) file_devices[i] = device_of_copier(i);
    struct outcome outcome = ended();
    outcome.discarded = discards ? discardable_units() : 0;
    return outcome;
}

/* ------------------------------------------------------------------------------------------------------------- load */

static int read_units(char *into, uint32_t place, uint32_t units) {
    return read_saved(job.files, (place - 1) % COPIERS, into, units * UNIT, (uint64_t)((place - 1) / COPIERS) * UNIT);
}

/* How many units from `first` on follow each other in the file, or are all zeros. */
static uint32_t run_of(const uint32_t *places, uint32_t most) {
    uint32_t run = 1;
    while (run < most && (places[0] ? places[run] == places[0] + run * COPIERS : !places[run])) run++;
    return run;
}

static int load_run(struct copier *mine, address at, uint32_t place, uint32_t units) {
    const struct driver *cuda = job.cuda;
    if (!place) return failed(cuda->cuMemsetD8Async(at, 0, units * UNIT, mine->stream), "clear device memory");
    char *slot = mine->slots + (size_t)mine->slot * SLOT;
    if (failed(cuda->cuEventSynchronize(mine->done[mine->slot]), "copy to the device")) return 1;
    if (read_units(slot, place, units)) return failed(OUT_OF_MEMORY, "read what was saved");
    job.stored += units;
    if (failed(cuda->cuMemcpyHtoDAsync_v2(at, slot, units * UNIT, mine->stream), "copy to the device")) return 1;
    if (failed(cuda->cuEventRecord(mine->done[mine->slot], mine->stream), "copy to the device")) return 1;
    mine->slot = (mine->slot + 1) % SLOTS;
    return 0;
}

/* Whether the main thread has filled a unit. */
static int is_filled(uint32_t place) { return job.cleared && (!place || is_copied(place)); }

/* How many units are loaded as one: no more than a slot has. */
static uint32_t load_at_once(const uint32_t *places, uint32_t left) {
    return job.cleared ? 1 : run_of(places, left < SLOT_UNITS ? left : SLOT_UNITS);
}

static void load_pieces(struct copier *mine) {
    for (const struct piece *piece; (piece = next_piece(mine));)
        for (uint32_t done = 0, run; done < piece->units; done += run) {
            const uint32_t *places = unit_places + piece->first + done;
            run = load_at_once(places, piece->units - done);
            if (!is_filled(*places) && load_run(mine, piece->at + done * UNIT, *places, run)) return;
        }
}

static void load_by(int number) {
    struct copier mine = {.slots = map(SLOTS * SLOT), .device = device_of_copier(number)};
    if (!mine.slots) {
        failed(OUT_OF_MEMORY, "make room to copy");
        return;
    }
    if (open_copier(&mine) == 0) {
        int made = 0;
        while (made < SLOTS && !failed(job.cuda->cuEventCreate(&mine.done[made], EVENT_DISABLE_TIMING), "make an event"))
            made++;
        if (made == SLOTS) load_pieces(&mine);
        close_copier(&mine);
        while (made) job.cuda->cuEventDestroy_v2(mine.done[--made]);
    }
    munmap(mine.slots, SLOTS * SLOT);
}

static int begin_load(void) {
    if (job.loads) return 0;
    if (begin(0)) return -1;
    job.loads = 1;
    if (job.units != noted_units) failed(NOT_INITIALIZED, "load what is no longer what was saved");
    renew_instances();
    if (!job.failed) failed(join_peers(), "have the peer access of its devices back");
    return 0;
}

/* The stream on which parts of a device are copied, and its zeros cleared; NULL if there can be none. */
static stream copies_of(int device) {
    stream *on = &job.copies[device];
    if (failed(enter_device(device), "enter the worker's context")) return NULL;
    if (!*on) failed(job.cuda->cuStreamCreate(on, STREAM_NON_BLOCKING), "make a stream");
    return *on;
}

/* How many units from `place` on a part has; 0: not this one. */
static uint32_t left_of(const struct ahead *part, uint32_t place) {
    const uint32_t unit = place ? (place - 1) / COPIERS : 0;
    const int is_in = place && (place - 1) % COPIERS == part->file && unit >= part->first && unit - part->first < part->units;
    return is_in ? part->first + part->units - unit : 0;
}

/* Without memory for the segment the part is read from the file, when all others are out of the way. */
static int copy_to(struct segment *segment, const uint32_t *places, const struct ahead *part, stream on) {
    for (uint32_t done = 0, run, all = units_of(segment); done < all; done += run) {
        const uint32_t most = left_of(part, places[done]);
        run = most ? run_of(places + done, most < all - done ? most : all - done) : 1;
        if (!most) continue;
        if (!segment->present && map_segment(segment)) return -1;
        const address from = part->at + ((places[done] - 1) / COPIERS - part->first) * UNIT;
        if (failed(job.cuda->cuMemcpyDtoDAsync_v2(segment->at + done * UNIT, from, run * UNIT, on), "copy on the device"))
            return -1;
        job.stored += run;
    }
    return 0;
}

int copy_part(const struct ahead *part) {
    if (!unit_places || begin_load() || job.failed) return -1;
    const stream on = copies_of(part->device);
    const uint32_t *places = unit_places;
    int missed = !on;
    for (int i = 0; i < segment_count && !missed; places += units_of(&segments[i]), i++)
        if (units_of(&segments[i]) && segments[i].device == part->device) missed = copy_to(&segments[i], places, part, on);
    if (on) failed(job.cuda->cuStreamSynchronize(on), "copy on the device");
    return missed || job.failed ? -1 : 0;
}

void give_up_load(void) {
    if (job.loads) ended();
    else drop_buffers();
}

/* Clears those units of a segment that are zeros; returns how many are neither that nor copied. */
static uint32_t clear_zeros_of(const struct segment *segment, const uint32_t *places, stream on) {
    uint32_t left = 0, all = units_of(segment);
    for (uint32_t done = 0, run; done < all; done += run) {
        run = places[done] ? 1 : run_of(places + done, all - done);
        if (places[done]) left += !is_copied(places[done]);
        else failed(job.cuda->cuMemsetD8Async(segment->at + done * UNIT, 0, run * UNIT, on), "clear device memory");
    }
    return left;
}

/* Returns how many units are left to be read. */
static uint32_t clear_zeros(void) {
    uint32_t left = 0;
    const uint32_t *places = unit_places;
    for (int i = 0; i < segment_count && !job.failed; places += units_of(&segments[i]), i++) {
        if (!units_of(&segments[i])) continue;
        const stream on = copies_of(segments[i].device);
        if (!segments[i].present) failed(map_segment(&segments[i]), "have its device memory back");
        if (!job.failed) left += clear_zeros_of(&segments[i], places, on);
    }
    for (int i = 0; i < MOST_DEVICES; i++)
        if (job.copies[i]) failed(job.cuda->cuStreamSynchronize(job.copies[i]), "clear device memory");
    job.cleared = 1;
    return left;
}

/* What is there may still lack a mapping: one could be given back, and the next not. */
static int map_all(void) {
    for (int i = 0; i < segment_count; i++)
        if (!job.failed && units_of(&segments[i]))
            failed(segments[i].present ? map_again(&segments[i]) : map_segment(&segments[i]), "have its device memory back");
    return !job.failed;
}

/* Which units each segment has: later there may be other segments. */
static void note_loaded(void) {
    uint32_t first = 1;
    for (int i = 0; i < segment_count; first += units_of(&segments[i]), i++)
        segments[i].loaded = units_of(&segments[i]) ? first : 0;
}

struct outcome load_segments(const int *files) {
    if (!unit_places || files[COPIERS - 1] < 0) return (struct outcome){.error = NOT_INITIALIZED, .failed = "load what was never saved"};
    if (begin_load()) return without_memory();
    job.files = files;
    drop_buffers();
    int all_is_there = !job.failed && has_parts() && clear_zeros() == 0;
    if (map_all() && !all_is_there) run_copiers(load_by);
    if (!job.failed) note_loaded();
    return ended();
}
