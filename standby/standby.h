/* What the two parts of snapshot-standby share. */
#pragma once

/* One line to the container's log. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Copies the tool folder that this program lies in into `target`; the program's exit code. */
int install_tools(const char *target);
