/* What the parts of the library share: one header, since each part is small and there is one library. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>

#include "driver.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define EXPORTED __attribute__((visibility("default")))

/* What is saved and filled as one: either all zeros, or as a whole in the file. Device memory comes in such pages. */
#define UNIT ((size_t)2 << 20)
enum { SLOT_UNITS = 2, SLOTS = 2, COPIERS = 16, MOST_SEGMENTS = 65536 };
/* Devices of a process, by the driver's numbers; each has a copier at least, and those beyond are left to the driver. */
enum { MOST_DEVICES = COPIERS };
#define SLOT (SLOT_UNITS * UNIT)

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
/* Makes our context of a device current; of any if it is negative. */
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

/* One allocation of the worker that is ours: an address range that stays reserved, and memory that comes and goes. */
struct segment {
    address at;
    size_t size;
    handle memory;
    int used, mapped, device;
};

HIDDEN extern struct segment segments[MOST_SEGMENTS];
HIDDEN extern int segment_count; /* no used one is behind it */

/* Takes the table, but not for longer than `ms`: a thread that is held from outside may have it. 1 if it is taken. */
HIDDEN int take_segments(int ms);
HIDDEN void leave_segments(void);

HIDDEN result allocate(address *at, size_t size);
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
HIDDEN result map_segment(struct segment *segment);
HIDDEN result unmap_segment(struct segment *segment);
/* Maps memory of another process, wherever there is room, and gives it back. */
HIDDEN result import_segment(struct segment *segment, int descriptor);
HIDDEN void drop_segment(struct segment *segment);

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

/* Has every copier run `act` with its number, and waits until all are done. */
HIDDEN void run_copiers(void (*act)(int));

/* ---------------------------------------------------------------------------------------------------------- serve.c */

/* Talks to the agent that has woken us, until it ends the conversation. */
HIDDEN void serve(void);

enum { SOCKET_NAME = 108, TEXT = 64 };

/* Both ways; agent/gpu/device_memory.py has the same. */
struct message {
    uint32_t what, number;
    uint64_t a, b;
    char text[TEXT];
};

enum { VERSION = 3 };
enum {
    LOOK = 1,    /* -> DONE: number = VERSION, a = segments, b = bytes */
    SAVE = 2,    /* -> DONE: a = bytes of all files, b = bytes of all segments */
    RELEASE = 3, /* -> DONE */
    LOAD = 4,    /* with the files -> DONE: a = bytes read, b = bytes of all segments */
    END = 5,     /* we close the connection first, so that none of its ends is left in us */
    CLOSE = 6,   /* -> DONE: the worker's threads wait before the driver, until LOAD, or until this conversation ends
                    before RELEASE: the agent has ended, or decided otherwise */
    PART = 7,    /* no answer; with device memory that holds a part of a file that LOAD will get: number = file,
                    a = its first unit there, b = units */
    DONE = 16,
    FAILED = 17, /* number = the driver's error, or 0; text = what */
    HELLO = 18,  /* a copier's own connection, for SAVE -> RING with the memory that both share; text = the UUID of the
                    device that all of its file comes from */
    RING = 19,
    DATA = 20,  /* number = slot, a = where in the copier's file, in units, b = which units of the slot */
    FREE = 21,  /* number = slot */
};

HIDDEN int connect_agent(void);
HIDDEN int send_message(int connection, const struct message *message);
/* Receives a message, and the descriptors that are with it (-1 for each that is not); 0 when the other end is closed. */
HIDDEN int receive_message(int connection, struct message *message, int *descriptors, int most);

/* --------------------------------------------------------------------------------------------------------- pieces.c */

/* At most a slot, of one segment. */
struct piece {
    address at;
    uint32_t units, first; /* its first unit among those of all segments */
};

/* Cuts all segments into pieces, and counts their units; -1: there is no room to note them. */
HIDDEN int cut_segments(uint32_t *units);
HIDDEN void drop_pieces(void);
HIDDEN int has_pieces(int device);
HIDDEN const struct piece *next_piece_of(int device); /* NULL: no more */
HIDDEN int device_of_copier(int number);              /* that it works for; -1: none */

/* ----------------------------------------------------------------------------------------------------------- copy.c */

struct outcome {
    result error; /* the first of the driver */
    const char *failed; /* what could not be done; NULL: nothing */
    uint64_t units, stored;
};

HIDDEN struct outcome save_segments(void);
HIDDEN struct outcome load_segments(const int *files);
/* The device that all of a file came from. */
HIDDEN int device_of_file(uint32_t file);

/* ---------------------------------------------------------------------------------------------------------- parts.c */

/* `place` is that of a stored unit (copy.c): its file, and where it is there. */
HIDDEN void take_part(uint32_t file, uint64_t first, uint64_t units, int descriptor);
HIDDEN int has_parts(void);
/* Where a unit is on the card, and how many follow it there; 0 if it is not. */
HIDDEN address place_on_card(uint32_t place, uint32_t *most);
/* Whether it is there, or was until it was copied. */
HIDDEN int was_on_card(uint32_t place);
HIDDEN void note_copied(uint32_t place, uint32_t units);
/* Gives back parts of which every unit is copied; or all that are left, 1 if there were any. */
HIDDEN void drop_copied_parts(void);
HIDDEN int drop_parts(void);

/* --------------------------------------------------------------------------------------------------------- detach.c */

/* Replaces our own file mappings by memory: a restored worker needs no file of the release that captured it. */
HIDDEN void detach_from_file(void);
