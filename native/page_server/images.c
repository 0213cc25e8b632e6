/* CRIU's images: which pages it leaves to us, and where their content is. What they say is hostile until checked.
 *
 * Numbers are those of criu's images/pagemap.proto, mm.proto and vma.proto. A field that we do not know may change what
 * a page's content is (compression, for example), so it is refused, not skipped.
 */
#define _GNU_SOURCE
#include "page_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 8, WIRE_VARINT = 0, WIRE_BYTES = 2 };
enum { HEAD_PAGES_ID = 1 };
enum { ENTRY_ADDRESS = 1, ENTRY_PAGES_32 = 2, ENTRY_IN_PARENT = 3, ENTRY_FLAGS = 4, ENTRY_PAGES = 5 };
enum { IN_PARENT = 1, LAZY = 2, PRESENT = 4 };
enum { MM_ARGUMENTS = 8, MM_ENVIRONMENT_END = 11, MM_VMAS = 14, VMA_START = 1, VMA_END = 2, VMA_ADVICE = 9 };
static const u64 TOP = (u64)1 << 56; /* above every address of a process */

struct bytes {
    const unsigned char *at, *end;
};

struct field {
    u64 number, value;
    struct bytes bytes;
};

static u64 varint(struct bytes *from, const char *image) {
    u64 value = 0;
    for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        unsigned char byte = *from->at++;
        value |= (u64)(byte & 127) << shift;
        if (byte < 128) return value;
    }
    fail("%s is not whole", image);
}

static int next_field(struct bytes *from, struct field *field, const char *image) {
    if (from->at >= from->end) return 0;
    u64 tag = varint(from, image);
    field->number = tag >> 3;
    field->bytes = (struct bytes){NULL, NULL};
    field->value = varint(from, image);
    if ((tag & 7) == WIRE_VARINT) return 1;
    if ((tag & 7) != WIRE_BYTES || field->value > (u64)(from->end - from->at)) fail("%s is not whole", image);
    field->bytes = (struct bytes){from->at, from->at + field->value};
    from->at += field->value;
    return 1;
}

static int next_message(struct bytes *from, struct bytes *message, const char *image) {
    uint32_t length;
    if (from->at == from->end) return 0;
    if (from->end - from->at < (ptrdiff_t)sizeof length) fail("%s is not whole", image);
    memcpy(&length, from->at, sizeof length);
    from->at += sizeof length;
    if (length > (size_t)(from->end - from->at)) fail("%s is not whole", image);
    *message = (struct bytes){from->at, from->at + length};
    from->at += length;
    return 1;
}

/* Maps an image; `size` may be 0. */
static struct bytes map_image(int directory, const char *name) {
    struct stat status;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) fail("%s cannot be read: %m", name);
    struct bytes found = {NULL, NULL};
    if (status.st_size > 0) {
        found.at = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (found.at == MAP_FAILED) fail("%s cannot be mapped: %m", name);
        found.end = found.at + status.st_size;
    }
    close(fd);
    return found;
}

static struct bytes map_messages(int directory, const char *name) {
    struct bytes image = map_image(directory, name);
    if (image.end - image.at < HEADER) fail("%s is not whole", name);
    image.at += HEADER;
    return image;
}

static void read_entry(struct process *process, struct bytes entry, u64 *offset, const char *image) {
    struct field field;
    u64 start = 0, pages = 0, flags = 0;
    while (next_field(&entry, &field, image)) {
        if (field.number == ENTRY_ADDRESS) start = field.value;
        else if (field.number == ENTRY_FLAGS) flags = field.value;
        else if (field.number == ENTRY_PAGES || (field.number == ENTRY_PAGES_32 && !pages)) pages = field.value;
        else if (field.number != ENTRY_PAGES_32 && (field.number != ENTRY_IN_PARENT || field.value))
            fail("%s has a field that is not known: %llu", image, (unsigned long long)field.number);
    }
    if (flags & ~(u64)(LAZY | PRESENT) || !(flags & PRESENT)) fail("%s has pages of a kind that is not known", image);
    if (start % PAGE || start > TOP || pages > (process->size - *offset) / PAGE) fail("%s names pages that are not there", image);
    if (flags & LAZY && pages) add_extent(process, (struct extent){start, pages * PAGE, *offset});
    *offset += pages * PAGE;
}

static void read_pagemap(int directory, struct process *process, const char *image) {
    char name[64];
    struct bytes found = map_messages(directory, image), message;
    struct field field;
    u64 id = 0, offset = 0;
    if (!next_message(&found, &message, image)) fail("%s is not whole", image);
    while (next_field(&message, &field, image))
        if (field.number == HEAD_PAGES_ID) id = field.value;
        else fail("%s has a field that is not known: %llu", image, (unsigned long long)field.number);
    snprintf(name, sizeof name, "pages-%llu.img", (unsigned long long)id);
    struct bytes pages = map_image(directory, name);
    process->pages = (const char *)pages.at;
    process->size = (u64)(pages.end - pages.at);
    while (next_message(&found, &message, image)) read_entry(process, message, &offset, image);
    sort_extents(process);
    for (size_t i = 1; i < process->count; i++)
        if (process->extents[i - 1].start + process->extents[i - 1].length > process->extents[i].start)
            fail("%s names pages twice", image);
}

static void add_urgent(struct process *process, u64 start, u64 end) {
    if (start >= end || end > TOP) return;
    process->urgent = realloc(process->urgent, (process->urgent_count + 1) * sizeof *process->urgent);
    if (!process->urgent) fail("no memory for the list of pages");
    process->urgent[process->urgent_count++] = (struct extent){start, end - start, 0};
}

/* What is filled before any process runs:
 *
 * - memory that a fork gives to the child otherwise than by copying (MADV_WIPEONFORK, MADV_DONTFORK): the child of a
 *   process that misses such a page would be given the image's content;
 * - arguments and environment: others read them in /proc/PID, and the kernel has no page brought for a reader. */
static void read_mm(int directory, struct process *process, const char *image) {
    static const u64 UNLIKE_A_COPY = (u64)1 << MADV_DONTFORK | (u64)1 << MADV_WIPEONFORK;
    struct bytes found = map_messages(directory, image), message;
    struct field field;
    u64 arguments = 0;
    if (!next_message(&found, &message, image)) fail("%s is not whole", image);
    while (next_field(&message, &field, image)) {
        struct field part;
        u64 start = 0, end = 0, advice = 0;
        if (field.number == MM_ARGUMENTS) arguments = field.value / PAGE * PAGE;
        if (field.number == MM_ENVIRONMENT_END) add_urgent(process, arguments, (field.value + PAGE - 1) / PAGE * PAGE);
        if (field.number != MM_VMAS) continue;
        while (next_field(&field.bytes, &part, image)) {
            if (part.number == VMA_START) start = part.value;
            else if (part.number == VMA_END) end = part.value;
            else if (part.number == VMA_ADVICE) advice = part.value;
        }
        if (advice & UNLIKE_A_COPY) add_urgent(process, start, end);
    }
}

void load_images(int directory) {
    /* Another open file, since reading a directory moves its position. */
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *images = fd < 0 ? NULL : fdopendir(fd);
    if (!images) fail("the images cannot be listed: %m");
    for (struct dirent *entry; (entry = readdir(images));) {
        char mm[64];
        int pid, length = 0;
        if (sscanf(entry->d_name, "pagemap-%9d.img%n", &pid, &length) != 1 || entry->d_name[length]) continue;
        struct process *process = process_of(pid);
        if (process->done) fail("there are two images of process %d", pid);
        read_pagemap(directory, process, entry->d_name);
        snprintf(mm, sizeof mm, "mm-%d.img", pid);
        read_mm(directory, process, mm);
    }
    closedir(images);
}
