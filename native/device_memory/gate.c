/* A gate in front of the driver: while it is closed, the worker's threads wait before they enter it.
 *
 * The driver's own lock makes them wait inside, where they keep its locks from our threads. So every function of the
 * driver that is looked up leads through a door of ours: it looks at the gate and jumps on, with the arguments untouched.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device_memory.h"

/* CUDA 13 has about 600 functions; all static runtimes of a process look up the same. */
#define DOORS 2048
#define TEXT_OF(number) #number
#define NUMBER_OF(number) TEXT_OF(number)
enum { ENTER_MICROSECONDS = 5000, INSIDE_MS = 1000 };

/* Named in the assembly below. */
HIDDEN _Atomic(uint32_t) gate_closed;
HIDDEN void *gate_targets[DOORS];
HIDDEN extern char gate_doors[], gate_doors_end[];
static uint32_t doors;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(int) inside;

void renew_doors_in_child(void) { making = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; }

__attribute__((used)) HIDDEN void wait_at_gate(void) {
    while (atomic_load(&gate_closed)) syscall(SYS_futex, &gate_closed, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}

void enter_driver(void) {
    atomic_fetch_add(&inside, 1);
    while (atomic_load(&gate_closed)) {
        atomic_fetch_sub(&inside, 1);
        wait_at_gate();
        atomic_fetch_add(&inside, 1);
    }
}

void leave_driver(void) { atomic_fetch_sub(&inside, 1); }

void open_gate(void) {
    atomic_store(&gate_closed, 0);
    syscall(SYS_futex, &gate_closed, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

/* A thread that is past a door, and has not reached the driver yet, is given a moment for it; then the driver's own lock
 * counts. */
int close_gate(void) {
    atomic_store(&gate_closed, 1);
    for (int ms = 0; atomic_load(&inside); ms++) {
        if (ms == INSIDE_MS) {
            open_gate();
            return -1;
        }
        usleep(1000);
    }
    usleep(ENTER_MICROSECONDS);
    return 0;
}

/* The door to a function; the function itself when there are no more. */
void *door_to(void *function) {
    size_t size = (size_t)(gate_doors_end - gate_doors) / DOORS;
    pthread_mutex_lock(&making);
    uint32_t i = 0;
    while (i < doors && gate_targets[i] != function) i++;
    if (i == doors && doors < DOORS) gate_targets[doors++] = function;
    pthread_mutex_unlock(&making);
    return i < DOORS ? gate_doors + i * size : function;
}

/* Every door has the same size: the behind of each is reached with its number on the stack. */
__asm__(".text\n"
        ".balign 32\n"
        "gate_doors:\n"
        ".set number, 0\n"
        ".rept " NUMBER_OF(DOORS) "\n"
        "    .balign 32\n"
        "    endbr64\n"
        "    cmpl $0, gate_closed(%rip)\n"
        "    jne 1f\n"
        "    jmp *gate_targets + 8 * number(%rip)\n"
        "1:  pushq $number\n"
        "    jmp gate_is_closed\n"
        "    .set number, number + 1\n"
        ".endr\n"
        ".balign 32\n"
        "gate_doors_end:\n"
        /* What a call's arguments may be in is kept; the number is above it, so the stack is aligned again. */
        "gate_is_closed:\n"
        "    push %rdi\n"
        "    push %rsi\n"
        "    push %rdx\n"
        "    push %rcx\n"
        "    push %r8\n"
        "    push %r9\n"
        "    sub $128, %rsp\n"
        "    movups %xmm0, (%rsp)\n"
        "    movups %xmm1, 16(%rsp)\n"
        "    movups %xmm2, 32(%rsp)\n"
        "    movups %xmm3, 48(%rsp)\n"
        "    movups %xmm4, 64(%rsp)\n"
        "    movups %xmm5, 80(%rsp)\n"
        "    movups %xmm6, 96(%rsp)\n"
        "    movups %xmm7, 112(%rsp)\n"
        "    call wait_at_gate\n"
        "    movups (%rsp), %xmm0\n"
        "    movups 16(%rsp), %xmm1\n"
        "    movups 32(%rsp), %xmm2\n"
        "    movups 48(%rsp), %xmm3\n"
        "    movups 64(%rsp), %xmm4\n"
        "    movups 80(%rsp), %xmm5\n"
        "    movups 96(%rsp), %xmm6\n"
        "    movups 112(%rsp), %xmm7\n"
        "    add $128, %rsp\n"
        "    pop %r9\n"
        "    pop %r8\n"
        "    pop %rcx\n"
        "    pop %rdx\n"
        "    pop %rsi\n"
        "    pop %rdi\n"
        "    pop %rax\n"
        "    lea gate_targets(%rip), %r11\n"
        "    jmp *(%r11, %rax, 8)\n");
