/* What the parts of snapshot-standby share: one header, since each part is small and there is one program. */
#pragma once

#include <sys/types.h>

enum { LINE = 4096, ID_SIZE = 128, EXIT_REQUIRED = 78 };

/* Milliseconds. */
enum { POLL = 10, FOREIGN_WINDOW = 2000 };

/* ----------------------------------------------------------------------------------------------------------- host.c */

/* One line to the container's log. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Milliseconds since some moment. */
long long now_ms(void);

const char *env_or(const char *name, const char *fallback);

/* Whether the environment variable `name` has this value. */
int policy_is(const char *name, const char *value);

/* Reads a whole small file; returns its length, -1 if it cannot be read. The text is always ended by NUL. */
ssize_t slurp(int dir, const char *name, char *into, size_t size);

/* ---------------------------------------------------------------------------------------------------------- claim.c */

struct verdict {
    char word[16];
    char rest[LINE];
};

/* Clears what a former container left and makes the claim file. Returns NULL, or what failed. */
const char *make_claim(void);

/* Descriptor of the control directory, -1 without one. */
int control_directory(void);
int has_claim(void);
int has_control_file(const char *name);

/* Writes a control file so that no reader ever sees half of it. */
void publish(const char *name, const char *content);

/* Has await_change wake when a file appears in the control directory. */
void watch_control_files(void);

/* One beat that ends at once when a file appears there. */
void await_change(int ms);
void forget_control_files(void);

/* Whether another process holds the claim. */
int claimed(void);
int take_lock(void);

/* Seconds that a holder of the claim allows itself, 0 if none has started. */
long allowed_seconds(void);

/* When a claim that began at `since` has had its time. */
long long end_of_claim(long long since);

/* Reads a verdict on this very start of the container; returns 0 if there is none. */
int read_verdict(struct verdict *verdict);

/* The restored but stopped worker that an agent has parked here; 0 if none is. */
pid_t parked_worker(void);

/* The id of the checkpoint that was restored, as the agent wrote it; `into` holds ID_SIZE. */
const char *restored_id(char *into);

/* Splits "clean|dirty reason..." in place; returns 1 if it is dirty. */
int split_failure(struct verdict *verdict, const char **reason);

/* --------------------------------------------------------------------------------------------------------- worker.c */

/* Blocks all signals: they are fetched one by one from then on. */
void hold_signals(void);

/* Gives signals back as we were started with them. */
void use_original_signals(void);

/* One beat of every loop, at most `ms` long: passes signals on, reaps. */
void beat(int ms);

/* Becomes the command, with the signals that we were started with; does not return. */
void become(char **command) __attribute__((noreturn));
pid_t start_worker(char **command);
void adopt_worker(pid_t pid);
int worker_ended(void);

/* Its exit code, once it has ended. */
int worker_code(void);

/* ------------------------------------------------------------------------------------------------------- preload.c */

/* Adds the library that DYN_SNAPSHOT_DEVICE_MEMORY names to what the worker's loader loads first. */
void preload_device_memory(void);

/* ---------------------------------------------------------------------------------------------------- capturable.c */

/* Has a worker do without what could not be captured, by its environment, where that says nothing of it. */
void prefer_capturable(void);

/* --------------------------------------------------------------------------------------------------------- pages.c */

/* Makes the socket at which a page server finds us. */
void open_pages(void);

/* Hears what the page server says; 1 if it ended too early: the worker is then killed. */
int pages_are_lost(void);

/* Whether a page server counts on us. */
int guards_pages(void);

/* Whether the other end of a connection is no process of this container. */
int is_from_outside(int peer);

/* ------------------------------------------------------------------------------------------------------- command.c */

/* Makes the socket at which the agent has a command run; before the environment is changed. */
void open_commands(void);

/* Begins what was asked for there. */
void serve_commands(void);

/* -------------------------------------------------------------------------------------------------------- foreign.c */

/* Wakes what is beside us, but for the processes in a list of pids with spaces between them. */
void wake_all_but(const char *stopped);

/* Waits until nothing but probes is left beside us, with force if that is needed; 0 if something stays. */
int alone(void);

/* ---------------------------------------------------------------------------------------------------------- image.c */

/* The command line of two records, or of the first and `arguments`; NULL if they are not there. */
char **image_command(const char *entrypoint, const char *cmd, char **arguments);

/* The same, as the agent writes it of an image that has no record; ends the program if no agent does. */
char **told_command(char **arguments);

/* -------------------------------------------------------------------------------------------------------- install.c */

/* Copies the tool folder that this program is in into `target`; the program's exit code. */
int install_tools(const char *target);

/* ----------------------------------------------------------------------------------------------------------- gate.c */

/* Whether a control file is there; without `file`, whether a restore or a cold start is over. */
int opened(const char *path, const char *file);

/* The startup probe of a container whose worker may not serve before there is a verdict; 0 if it passes. */
int gate(int count, char **words);
