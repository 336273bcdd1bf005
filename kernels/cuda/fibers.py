"""The threads of emulated kernels, as C text: fibers, each with a stack, that hand the processor to one another.

    thread    runs until it must wait; one that never waits needs no fiber of its own: the next starts on its stack
    fiber     a stack that goes from thread to thread, kept from launch to launch
    block     a queue of threads that can go on

What threads wait for is in runtime.py.
"""

from __future__ import annotations

_STATE = """\
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define GN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GN_ASAN 1
#endif
#endif
#ifdef GN_ASAN
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
void __asan_unpoison_memory_region(const volatile void *p, size_t size);
void __asan_poison_memory_region(const volatile void *p, size_t size);
#else
#define __asan_unpoison_memory_region(p, size) ((void)0)
#define __asan_poison_memory_region(p, size) ((void)0)
#endif

enum { MOST = 1024, STACK = 1 << 17, GUARD = 1 << 17 }; /* below a stack nothing can be written */
enum { FENCE = 64, REGIONS = 8, STATIC_SHARED = 48 * 1024, PATIENCE = 50000 };
enum state { FRESH, READY, BARRIER, WARP, PAUSED, DONE };
enum order { FORWARD, REVERSE, SHUFFLED };

struct fiber {
    void *sp, *fake;
    char *stack;
    struct thread *thread;
    struct fiber *next, *idle; /* all there are; those that run no thread */
};
struct thread {
    struct fiber *fiber;
    enum state state;
    int kind, line;
    unsigned mask, source;
    uint64_t value;
};
struct region { const void *site; char *memory; size_t bytes, room; }; /* of shared memory */
struct block {
    unsigned index, head, ready, done, arrived, sum;
    int regions, result;
    const struct thread *first; /* that arrived at the barrier */
    struct region region[REGIONS];
    uint32_t lanes[MOST / 32]; /* of each warp: those that have arrived at an operation */
    unsigned queue[MOST]; /* a ring of as many places as there are threads */
    struct thread threads[MOST];
};

static struct gn_host host;
static void (*kernel)(const void *const *);
static const void *const *arguments;
static unsigned size, room, budget;
static size_t dynamic_bytes;
static enum order order;
static uint64_t seed;
static struct block *blocks, *block;
static struct thread *thread;
static struct fiber *fibers, *idle, *fiber;
static int progress, failed, entered;
static void *scheduler; /* the stack of whoever launched */
#ifdef GN_ASAN
static const void *scheduler_stack;
static size_t scheduler_size;
#endif
static char message[400];
"""

_SWITCH = """\
/* saves what a call preserves, stores the stack pointer and goes on at another one */
void gn_switch(void **from, void *to) __asm__("gn_switch") __attribute__((visibility("hidden")));
#if defined(__x86_64__)
__asm__(".text\\n.p2align 4\\ngn_switch:\\n"
        "pushq %rbp\\npushq %rbx\\npushq %r12\\npushq %r13\\npushq %r14\\npushq %r15\\n"
        "movq %rsp, (%rdi)\\nmovq %rsi, %rsp\\n"
        "popq %r15\\npopq %r14\\npopq %r13\\npopq %r12\\npopq %rbx\\npopq %rbp\\npopq %rcx\\njmp *%rcx\\n");
enum { LINK = 6, WORDS = 8 };
#elif defined(__aarch64__)
__asm__(".text\\n.p2align 4\\ngn_switch:\\n"
        "sub sp, sp, #160\\n"
        "stp x19, x20, [sp]\\nstp x21, x22, [sp, #16]\\nstp x23, x24, [sp, #32]\\nstp x25, x26, [sp, #48]\\n"
        "stp x27, x28, [sp, #64]\\nstp x29, x30, [sp, #80]\\nstp d8, d9, [sp, #96]\\nstp d10, d11, [sp, #112]\\n"
        "stp d12, d13, [sp, #128]\\nstp d14, d15, [sp, #144]\\n"
        "mov x9, sp\\nstr x9, [x0]\\nmov sp, x1\\n"
        "ldp x19, x20, [sp]\\nldp x21, x22, [sp, #16]\\nldp x23, x24, [sp, #32]\\nldp x25, x26, [sp, #48]\\n"
        "ldp x27, x28, [sp, #64]\\nldp x29, x30, [sp, #80]\\nldp d8, d9, [sp, #96]\\nldp d10, d11, [sp, #112]\\n"
        "ldp d12, d13, [sp, #128]\\nldp d14, d15, [sp, #144]\\n"
        "add sp, sp, #160\\nret\\n");
enum { LINK = 11, WORDS = 20 };
#else
#error emulated kernels need an x86-64 or AArch64 processor
#endif

static void enter(struct fiber *to)
{
    entered = 1;
#ifdef GN_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, to->stack, STACK);
#endif
    gn_switch(&scheduler, to->sp);
#ifdef GN_ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    fiber = NULL;
}

static struct fiber *next_fiber(void);

/* the running thread waits: on with the next, or with the scheduler */
static void leave(void)
{
    struct fiber *own = fiber, *to = failed ? NULL : next_fiber();
    if (to == own)
        return;
    entered = 0;
#ifdef GN_ASAN
    __sanitizer_start_switch_fiber(&own->fake, to ? to->stack : scheduler_stack, to ? STACK : scheduler_size);
#endif
    gn_switch(&own->sp, to ? to->sp : scheduler);
#ifdef GN_ASAN
    __sanitizer_finish_switch_fiber(own->fake, entered ? &scheduler_stack : NULL, entered ? &scheduler_size : NULL);
#endif
}

static void say(const char *format, ...)
{
    if (failed)
        return;
    failed = 1;
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
}

/* the running thread ends here, and with it the launch */
#define FAIL(...) do { say(__VA_ARGS__); leave(); } while (0)
"""

_FIBERS = """\
static int number(const struct thread *t) { return (int)(t - block->threads); }

static uint64_t draw(void) /* xorshift64* */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1dULL >> 32;
}

/* 0 to n - 1 in the run's order */
static void arrange(unsigned *to, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = order == REVERSE ? n - 1 - i : i;
    for (unsigned i = n; order == SHUFFLED && i > 1; i--) {
        unsigned j = (unsigned)(draw() % i), other = to[j];
        to[j] = to[i - 1];
        to[i - 1] = other;
    }
}

static void push(unsigned t)
{
    unsigned place = block->head + block->ready++;
    block->queue[place < size ? place : place - size] = t;
}

static unsigned pop(void)
{
    unsigned t = block->queue[block->head];
    block->head = block->head + 1 == size ? 0 : block->head + 1;
    block->ready--;
    budget--;
    return t;
}

static void turn_to(struct thread *);

/* what every fiber does: run its thread, then those not yet begun that are next in the queue */
static void work(void)
{
#ifdef GN_ASAN
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_size);
#endif
    for (;;) {
        kernel(arguments);
        thread->state = DONE;
        thread->fiber = NULL;
        block->done++;
        progress = 1;
        if (budget && block->threads[block->queue[block->head]].state == FRESH) {
            struct thread *next = &block->threads[pop()];
            next->fiber = fiber;
            turn_to(next);
            continue;
        }
        fiber->idle = idle;
        idle = fiber;
        leave();
    }
}

static void prepare(struct fiber *f)
{
    static unsigned stagger; /* else all stacks would meet in the same sets of the cache */
    __asan_unpoison_memory_region(f->stack, STACK);
    stagger = (stagger + 192) % 4096;
    void **top = (void **)(f->stack + STACK - 64 - stagger) - WORDS;
    memset(top, 0, WORDS * sizeof *top);
    top[LINK] = (void *)(uintptr_t)work;
    f->sp = top;
    f->thread = NULL;
    f->idle = idle;
    idle = f;
}

/* a stack is two memory maps, of which Linux gives a process 65,530: the rest are for those who are not emulated */
enum { MOST_FIBERS = 24000 };

static int more_fibers(void)
{
    static int count;
    struct fiber *f = count < MOST_FIBERS ? calloc(1, sizeof *f) : NULL;
    char *memory = f ? mmap(NULL, STACK + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (!f || memory == MAP_FAILED || mprotect(memory + GUARD, STACK, PROT_READ | PROT_WRITE)) {
        free(f);
        if (memory != MAP_FAILED)
            munmap(memory, STACK + GUARD);
        say("no memory for the stacks of so many threads");
        return 0;
    }
    ++count;
    f->stack = memory + GUARD;
    f->next = fibers;
    fibers = f;
    prepare(f);
    return 1;
}

/* the running thread is now this one */
static void turn_to(struct thread *t)
{
    progress |= t->state != PAUSED;
    t->state = READY;
    thread = t;
    fiber = t->fiber;
    fiber->thread = t;
    host.thread.x = (unsigned)number(t);
}

/* the fiber of the next thread in the queue, if it has one and it is its turn */
static struct fiber *next_fiber(void)
{
    if (!budget || block->threads[block->queue[block->head]].state == FRESH)
        return NULL;
    turn_to(&block->threads[pop()]);
    return fiber;
}

static void resume(struct thread *t)
{
    if (t->state == FRESH) {
        if (!idle && !more_fibers())
            return;
        t->fiber = idle;
        idle = idle->idle;
    }
    turn_to(t);
    enter(fiber);
}
"""

FIBERS = "\n".join([_STATE, _SWITCH, _FIBERS])
