/* What the parts of the library share: one header, since each part is small and there is one library. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "driver.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define EXPORTED __attribute__((visibility("default")))

/* What is saved and filled as one: either all zeros, or as a whole in the file. Device memory comes in such pages. */
#define UNIT ((size_t)2 << 20)
enum { SLOT_UNITS = 2, SLOTS = 2, COPIERS = 16, MOST_SEGMENTS = 65536 };
/* What a copier takes at once: what follows each other on the device then does so in its file, and is one copy when it
 * comes from there by way of the card. Of 4 MiB each, 42 GiB took 0.14 s that way (H200). */
enum { PIECE_UNITS = 16 };
/* Devices of a process, by the driver's numbers; each has a copier at least, and those beyond are left to the driver. */
enum { MOST_DEVICES = COPIERS };
#define SLOT (SLOT_UNITS * UNIT)

struct outcome {
    result error; /* the first of the driver */
    const char *failed; /* what could not be done; NULL: nothing */
    uint64_t units, stored, discarded;
};

/* -------------------------------------------------------------------------------------------------------- devices.c */

struct device {
    context owner; /* allocations in other contexts of the device are left to the driver; NULL: none was made by us */
    struct properties properties;
    size_t granularity;
    int stands_back;
};
HIDDEN extern struct device devices[MOST_DEVICES];
HIDDEN extern uint32_t peer_changes; /* counts */

/* All that follow are called with the table of segments taken, but for name_device. */

/* The device that an allocation in the current context is to be ours on; -1: it is the driver's. */
HIDDEN int device_to_allocate_on(const struct driver *cuda);
/* The same for memory that the worker makes by itself on a device, whichever context is current. */
HIDDEN int device_of_memory(const struct driver *cuda, int number);
/* The same for memory of the host: the device that copies it. */
HIDDEN int device_for_host(const struct driver *cuda);
/* The context that we work in on a device; NULL: none. Makes it current; of any device if the number is negative. */
HIDDEN context context_on(int number);
HIDDEN result enter_device(int number);
/* Writes what identifies it everywhere, or nothing; `name` has room for 33. */
HIDDEN void name_device(int number, char *name);

/* For whom memory of a device is mapped; returns their number, at most MOST_DEVICES. */
HIDDEN size_t access_to(int number, struct access *list);
/* The current context has been given peer access to another, or no longer has it. */
HIDDEN result note_peer(context to);
HIDDEN void forget_peer(context to);
/* Takes all peer access away, which the driver does not bring back at a restore, and gives it again. */
HIDDEN result part_peers(void);
HIDDEN result join_peers(void);
/* A device's primary context; NULL if there is none yet. */
HIDDEN context primary_of(int number);
/* Kernels of all contexts that we know of, not only those of our streams: one on another device may write into memory of
 * ours. A context is current afterwards that was not. */
HIDDEN result await_kernels(void);
/* A context has ended. */
HIDDEN void forget_owner(context ended);

/* ------------------------------------------------------------------------------------------------------- segments.c */

enum origin {
    ALLOCATED, /* by cuMemAlloc: we have mapped it at `at` */
    CREATED,   /* by the worker, which maps it by itself; `at` counts while we copy */
    IMPORTED,  /* the memory of another process, or of an export of this one's own */
};

/* Memory that is ours to take out: it comes and goes. */
struct segment {
    address at;
    size_t size; /* 0: not known yet */
    handle memory;
    int used, present, first_mapping; /* first_mapping: its number + 1, 0: none */
    int device, is_on_host;           /* device: for memory of the host, that which copies it */
    enum origin origin;
    uint32_t references; /* that the worker has to it: handles of ours */
    int exported, fixed; /* fixed: it stays with the driver */
    int discardable;     /* its content need not outlive the worker's capture */
    uint32_t serial; /* no other segment has or had it: a number is given again */
    uint32_t loaded; /* 1 + its first unit among those that were saved, if it was loaded since; else 0 */
    struct properties properties;
    uint32_t instance; /* of what is imported: as imported_instance says */
    struct {
        uint32_t process, segment;
    } owner; /* of what is imported, as found when it is taken out */
};

HIDDEN extern struct segment segments[MOST_SEGMENTS];
HIDDEN extern int segment_count; /* no used one is behind it */

/* Takes the table, but not for longer than `ms`: a thread that is held from outside may have it. 1 if it is taken. */
HIDDEN int take_segments(int ms);
HIDDEN void wait_for_segments(void);
HIDDEN void leave_segments(void);

/* All that follow up to `allocate` are called with the table taken. Returns its number; -1: the table is full. */
HIDDEN int add_segment(const struct segment *segment);
/* Number of the allocation that an address is in; -1 if there is none. */
HIDDEN int segment_around(address at);
/* Units that are saved and filled: none of what is another's, or stays with the driver. */
HIDDEN uint32_t units_of(const struct segment *segment);
/* Makes memory and maps it wherever it was mapped; gives it back, the addresses stay. */
HIDDEN result map_segment(struct segment *segment);
HIDDEN result unmap_segment(struct segment *segment);
/* As map_segment, with the memory that another process shares. */
HIDDEN result import_memory(struct segment *segment, int descriptor);
/* Makes memory, and maps it wherever there is room; gives both back. */
HIDDEN result make_segment(struct segment *segment);
HIDDEN void drop_segment(struct segment *segment);

HIDDEN result allocate(address *at, size_t size, int discardable);
/* -1 if the address is none of ours. */
HIDDEN result release_at(address at);
HIDDEN int is_ours(address at);
/* The context that an address belongs to, of ours or the driver's; NULL if it is no device memory that has one. */
HIDDEN context context_at(address at);
/* note_peer and forget_peer, with the table taken. */
HIDDEN result look_into(context to);
HIDDEN void look_away(context to);
/* Frees what was allocated in a context. */
HIDDEN void forget_context(context ended);
/* In a child of the worker, which another thread may have forked while this one was held. */
HIDDEN void renew_table_in_child(void);

/* --------------------------------------------------------------------------------------------------------- mapped.c */

/* A range of addresses that is mapped by the worker itself, or by us for as long as we copy (is_window). */
struct mapping {
    address at;
    size_t size, offset;
    int used, on, segment, next, is_window, is_opened; /* is_opened: by CUDA IPC, at an address that we reserved */
    unsigned char access[MOST_DEVICES];
    struct access on_host; /* the processor's */
};

/* The worker's calls. A handle that is none of ours goes to the driver as it is. */
HIDDEN void adopt_created(handle *made, size_t size, const struct properties *wanted, uint64_t flags);
HIDDEN void adopt_imported(handle *made, int type);
HIDDEN int retain_at(address at, handle *found); /* -1: none of ours is there */
HIDDEN handle real_handle(handle given);
HIDDEN result release_handle(handle given);
HIDDEN result export_handle(void *shared, handle given, int type, uint64_t flags);
HIDDEN void fix_handle(handle given);
HIDDEN void fix_range(address at, size_t size);
HIDDEN result map_handle(address at, size_t size, size_t offset, handle given, uint64_t flags);
HIDDEN result unmap_range(address at, size_t size);
HIDDEN result set_access_to_range(address at, size_t size, const struct access *list, size_t count);

/* Those that follow: with the table taken. */
HIDDEN result map_again(struct segment *segment);
HIDDEN result unmap_all_of(struct segment *segment);
HIDDEN result reach_segment(struct segment *segment);
HIDDEN void leave_reached(struct segment *segment);
/* A mapping through which a device of ours sees its first bytes. */
HIDDEN const struct mapping *mapping_that_sees(const struct segment *segment, int *device);
HIDDEN int add_opened(address at, size_t size, handle memory, const struct properties *properties,
                      const struct access *list, size_t count);
HIDDEN int drop_opened(address at, size_t *size, handle *memory); /* memory: 0 if the worker has a handle to it */

/* -------------------------------------------------------------------------------------------------------- sharing.c */

/* How many segments other processes may have, and how many are another's. */
HIDDEN void count_shared(uint64_t *exported, uint64_t *imported);
HIDDEN struct outcome tag_exported(uint64_t round);
HIDDEN struct outcome untag_exported(void);
HIDDEN struct outcome match_imported(uint64_t round);
/* The next segment from a number on that waits for its memory; -1: none. */
HIDDEN int next_awaited(uint32_t from);
HIDDEN struct outcome export_again(uint32_t number, int *descriptor);
HIDDEN struct outcome import_again(uint32_t number, int descriptor);

/* ------------------------------------------------------------------------------------------------------------ ipc.c */

HIDDEN result name_for_others(struct shared *shared, address at); /* -1: none of ours */
HIDDEN result open_of_others(address *at, const struct shared *shared); /* -1: none of ours */
HIDDEN result close_of_others(address at); /* -1: none of ours */
/* Has no socket of ours open at a capture, and opens it again. */
HIDDEN void close_shop(void);
HIDDEN void open_shop(void);
/* In a child of the worker, as renew_table_in_child. */
HIDDEN void renew_shop_in_child(void);

/* ------------------------------------------------------------------------------------------------------ instances.c */

/* Once; before it ours leads to the kernel at once. */
HIDDEN void find_ioctl(void);
/* Both that follow: with the table taken. At a capture: notes by which number the driver's library knows each device. */
HIDDEN void note_instances(void);
/* After a restore: has it find the devices that have other numbers now. */
HIDDEN void renew_instances(void);
/* By which number the library knows the device of the memory that this thread has imported last; 0: it is not known. */
HIDDEN uint32_t imported_instance(void);
/* What that number must be of the memory that this thread imports next; 0: it is not known. */
HIDDEN void expect_instance(uint32_t instance);

/* ------------------------------------------------------------------------------------------------------ interpose.c */

/* Not ours; NULL before it was found. */
HIDDEN extern void *(*real_dlsym)(void *, const char *);

/* What the worker gets in place of the driver's; within the gate. */
HIDDEN result allocate_any(address *at, size_t size, int discardable);
HIDDEN result free_any(address at);

/* ------------------------------------------------------------------------------------------------------ recording.c */

/* The worker begins to capture a stream into a graph, or ends that. */
HIDDEN void note_recording(stream on);
HIDDEN void forget_recording(stream on);
HIDDEN int is_recording(void);
/* In a child of the worker, as renew_table_in_child. */
HIDDEN void renew_recording_in_child(void);

/* ------------------------------------------------------------------------------------------------------- discard.c */

/* In the form of PyTorch's pluggable allocators; looked up by sdk/snapshot_sdk/_discardable.py. NULL: there is none. */
EXPORTED void *snapshot_allocate_discardable(ssize_t size, int device, stream on);
EXPORTED void snapshot_free_discardable(void *at, ssize_t size, int device, stream on);

/* ----------------------------------------------------------------------------------------------------------- gate.c */

/* Around what makes several calls of the driver in a row. */
HIDDEN void enter_driver(void);
HIDDEN void leave_driver(void);

/* Has the worker's threads wait before the driver; 0 if none of ours own calls is in the middle. */
HIDDEN int close_gate(void);
HIDDEN void open_gate(void);
HIDDEN void *door_to(void *function);
/* In a child of the worker, as renew_table_in_child. */
HIDDEN void renew_doors_in_child(void);

/* --------------------------------------------------------------------------------------------------------- thread.c */

/* Starts our threads, once; to be called with the worker's context current. 0 if they run. */
HIDDEN int start_threads(void);

/* Starts one that takes no signal; 0 if it runs. */
HIDDEN int start_thread(void *(*run)(void *), intptr_t number);
/* Has every copier run `act` with its number, and waits until all are done. */
HIDDEN void run_copiers(void (*act)(int));

/* ---------------------------------------------------------------------------------------------------------- serve.c */

/* Talks to the agent that has woken us, until it ends the conversation. */
HIDDEN void serve(void);

enum { SOCKET_NAME = 108, TEXT = 64 };

/* Both ways; agent/gpu/device_messages.py has the same. */
struct message {
    uint32_t what, number;
    uint64_t a, b;
    char text[TEXT];
};

enum { VERSION = 9 };
enum {
    LOOK = 1,    /* -> DONE: number = VERSION, a = bytes of the host (before version 6: segments), b = bytes of all */
    SAVE = 2,    /* number = 1: without what may be discarded -> DONE: a = bytes of all files, b = bytes of all
                    segments, number = units that were left out. Libraries that know of none save all, and say 0 */
    RELEASE = 3, /* -> DONE */
    LOAD = 4,    /* with the files -> DONE: a = bytes read, b = bytes of all segments */
    END = 5,     /* we close the connection first, so that none of its ends is left in us */
    CLOSE = 6,   /* -> DONE: the worker's threads wait before the driver, until LOAD, or until this conversation ends
                    before RELEASE: the agent has ended, or decided otherwise */
    OLD_PART = 7, /* no answer: of an agent from before version 5, and left out */
    SHARES = 8,  /* -> DONE: a = segments that others may have, b = segments that are another's */
    QUIET = 9,   /* -> DONE: no kernel of the worker runs */
    TAG = 10,    /* a = round: writes over the first bytes of what others may have -> DONE */
    MATCH = 11,  /* a = round: reads them in what is another's -> DONE: each one's owner is known, or FAILED */
    UNTAG = 12,  /* -> DONE: the bytes are as they were */
    WANT = 13,   /* number = first -> DONE: number = a segment that waits for its memory, a = its owner's process id,
                    b = its number there; or text = "nothing" */
    EXPORT = 14, /* number = segment -> DONE, with its memory */
    IMPORT = 15, /* number = segment, with its memory -> DONE */
    DONE = 16,
    FAILED = 17, /* number = the driver's error, or 0; text = what */
    HELLO = 18,  /* a copier's own connection, for SAVE -> RING with the memory that both share; text = the UUID of the
                    device that all of its file comes from */
    RING = 19,
    DATA = 20,  /* number = slot, a = where in the copier's file, in units, b = which units of the slot */
    FREE = 21,  /* number = slot */
    PART = 22,  /* the agent has put a part of a file that LOAD will get into a buffer: number = file, a = its first unit
                   there, b = its units, and 2^32 times the number of the buffer -> DONE: it may be filled again; a = 1 if
                   the bytes are where they belong, 0 if they are to be read from the file */
    SOURCES = 23, /* with files that ranges of the saved files are in: those of RANGES are numbered as they come -> DONE */
    RANGES = 24,  /* a = rows, with a file of them: what LOAD finds in SOURCES, and not in its own files -> DONE */
    LEND = 25,    /* number = first, a = bytes that a segment has at least -> DONE, with its memory: number = a segment
                     that was loaded, a = its first unit among those of PLACES, b = its bytes; or text = "nothing" */
    PLACES = 26,  /* with a file, which is written: where each unit that was saved is -> DONE: a = units */
    BUFFER = 27,  /* number, a = units, b = a file: makes device memory for parts of files of that one's device, until LOAD
                     -> DONE, with it */
};

HIDDEN int connect_agent(void);
HIDDEN int send_message(int connection, const struct message *message);
HIDDEN int send_with(int connection, const struct message *message, int descriptor); /* -1: with none */
/* Receives a message, and the descriptors that are with it (-1 for each that is not); 0 when the other end is closed. */
HIDDEN int receive_message(int connection, struct message *message, int *descriptors, int most);

/* --------------------------------------------------------------------------------------------------------- pieces.c */

/* Of one segment. */
struct piece {
    address at;
    uint32_t units, first; /* its first unit among those of all segments */
};

/* Cuts segments into pieces, all or without those that may be discarded, and counts the units of all; -1: there is no
 * room to note them. */
HIDDEN int cut_segments(uint32_t *units, int discards);
HIDDEN void drop_pieces(void);
HIDDEN int has_pieces(int device);
HIDDEN const struct piece *next_piece_of(int device); /* NULL: no more */
HIDDEN int device_of_copier(int number);              /* that it works for; -1: none */

/* ----------------------------------------------------------------------------------------------------------- copy.c */

/* A part of a file that is on the card. */
struct ahead {
    address at;
    int device;
    uint32_t file, first, units; /* first: which unit of the file */
};

HIDDEN struct outcome save_segments(int discards);
HIDDEN struct outcome load_segments(const int *files);
/* Copies a part to where it belongs, for the load that follows. 0: all of it is there. */
HIDDEN int copy_part(const struct ahead *part);
/* Ends a load that has only had its parts. */
HIDDEN void give_up_load(void);
/* The device that all of a file came from. */
HIDDEN int device_of_file(uint32_t file);
/* Where each unit is that was saved last, and how many there are: 0 if it is all zeros, else 1 + its number in its
 * copier's file * COPIERS + the copier. */
HIDDEN const uint32_t *saved_places(uint32_t *units);

/* ----------------------------------------------------------------------------------------------------------- lend.c */

/* The next segment from a number on that holds what was loaded, of a size at least; -1: none. */
HIDDEN int next_lent(uint32_t from, uint64_t least);
HIDDEN struct outcome lend(int number, int *descriptor);
HIDDEN struct outcome write_places(int file, uint64_t *units);

/* ---------------------------------------------------------------------------------------------------------- parts.c */

/* Makes memory that the agent may write parts to, for those of a file's device, with a descriptor of it. */
HIDDEN struct outcome make_buffer(uint32_t number, uint64_t units, uint32_t file, int *descriptor);
/* Returns whether the bytes are where they belong. */
HIDDEN int take_part(uint32_t file, uint64_t first, uint64_t units, uint32_t buffer);
/* Whether any came since they were forgotten. */
HIDDEN int has_parts(void);
/* Whether a stored unit is where it belongs; `place` is copy.c's. */
HIDDEN int is_copied(uint32_t place);
/* Gives the buffers back: no more parts come, and the rest of the worker's own memory needs room. */
HIDDEN void drop_buffers(void);
HIDDEN void forget_parts(void);

/* --------------------------------------------------------------------------------------------------------- ranges.c */

/* Descriptors of files that the model came from, which are ours from here on, and the table of what is in them. 0: taken. */
HIDDEN int add_sources(int *files, int count);
HIDDEN int take_ranges(int table, uint64_t count);
HIDDEN void forget_ranges(void);
/* Reads what was saved, wherever it is; 0: all of it was read. */
HIDDEN int read_saved(const int *files, uint32_t file, char *into, size_t size, uint64_t at);

/* --------------------------------------------------------------------------------------------------------- detach.c */

/* Replaces our own file mappings by memory: a restored worker needs no file of the release that captured it. */
HIDDEN void detach_from_file(void);
