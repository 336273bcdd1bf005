"""The runtime of emulated kernels, as C text: threads are fibers, switched at barriers, warp operations and pauses.

    thread    runs until it must wait; one that never waits needs no fiber of its own: the next starts on its stack
    block     a queue of threads that can go on; a barrier that is complete puts all of them there, in the run's order
    launch    block after block; all of them in turn where the launch is cooperative

Whatever leaves no thread that could go on is explained in one line.
"""

from __future__ import annotations

from graphnet.kernels.cuda.emulated_text import INTERFACE

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

enum { MOST = 1024, STACK = 1 << 17, FENCE = 64, REGIONS = 8, STATIC_SHARED = 48 * 1024, PATIENCE = 50000 };
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
struct region { const void *site; char *memory; size_t bytes, room; };
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
static unsigned turn[MOST], *blocks_turn;
static int progress, failed, entered;
static void *scheduler;
#ifdef GN_ASAN
static const void *scheduler_stack;
static size_t scheduler_size;
#endif
static char message[400];
static const char *const names[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and", "__syncthreads_count",
                                    "__syncwarp", "a shuffle", "a ballot"};
"""

_SWITCH = """\
/* saves what a call preserves, stores the stack pointer and goes on at another one */
void gn_switch(void **from, void *to) __asm__("gn_switch") __attribute__((visibility("hidden")));
#if defined(__x86_64__)
__asm__(".text\\n.p2align 4\\ngn_switch:\\n"
        "pushq %rbp\\npushq %rbx\\npushq %r12\\npushq %r13\\npushq %r14\\npushq %r15\\n"
        "movq %rsp, (%rdi)\\nmovq %rsi, %rsp\\n"
        "popq %r15\\npopq %r14\\npopq %r13\\npopq %r12\\npopq %rbx\\npopq %rbp\\npopq %rcx\\njmp *%rcx\\n");
enum { SAVED = 6, LINK = 6, WORDS = 8 };
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
        if (*(uint64_t *)fiber->stack != (uint64_t)STACK)
            FAIL("block %u: thread %d has more than %d bytes of local variables", block->index, number(thread), STACK);
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
    *(uint64_t *)f->stack = STACK;
    stagger = (stagger + 192) % 4096;
    void **top = (void **)(f->stack + STACK - 64 - stagger) - WORDS;
    memset(top, 0, WORDS * sizeof *top);
    top[LINK] = (void *)(uintptr_t)work;
    f->sp = top;
    f->thread = NULL;
    f->idle = idle;
    idle = f;
}

static int more_fibers(void)
{
    struct fiber *f = calloc(1, sizeof *f);
    if (f)
        f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (!f || f->stack == MAP_FAILED) {
        free(f);
        say("no memory for the stacks of so many threads");
        return 0;
    }
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

_WAITS = """\
static int barrier(int kind, int predicate, int line)
{
    if (!block->arrived) {
        block->first = thread;
        block->sum = 0;
    } else if (block->first->kind != kind || block->first->line != line) {
        FAIL("block %u: thread %d is in %s of line %d while thread %d waits in %s of line %d", block->index,
             number(thread), names[kind], line, number(block->first), names[block->first->kind], block->first->line);
    }
    block->sum += predicate != 0;
    thread->state = BARRIER;
    thread->kind = kind;
    thread->line = line;
    if (++block->arrived == size) {
        block->arrived = 0;
        block->result = (int)(kind == GN_OR ? block->sum != 0 : kind == GN_AND ? block->sum == size : block->sum);
        arrange(turn, size);
        for (unsigned i = 0; i < size; i++)
            push(turn[i]);
    }
    leave();
    return block->result;
}

/* all lanes of the mask have arrived: they get their values and can go on */
static void exchange(struct thread *lanes, unsigned mask)
{
    uint64_t values[32], ballot = 0;
    for (unsigned i = 0; i < 32; i++) {
        const struct thread *t = &lanes[i];
        if (!(mask >> i & 1))
            continue;
        if (t->mask != mask || t->kind != thread->kind || t->line != thread->line)
            FAIL("block %u: thread %d is in %s of line %d with mask %08x while thread %d waits in %s of line %d with "
                 "mask %08x", block->index, number(thread), names[thread->kind], thread->line, mask, number(t),
                 names[t->kind], t->line, t->mask);
        if (!(mask >> t->source & 1))
            FAIL("block %u: thread %d reads lane %u in a shuffle (line %d), which mask %08x does not name",
                 block->index, number(t), t->source, t->line, mask);
        values[i] = t->value;
        ballot |= t->value << i;
    }
    unsigned order_of[32];
    arrange(order_of, 32);
    for (unsigned j = 0; j < 32; j++) {
        unsigned i = order_of[j];
        if (!(mask >> i & 1))
            continue;
        lanes[i].value = thread->kind == GN_BALLOT ? ballot : values[lanes[i].source];
        push((unsigned)number(&lanes[i]));
    }
}

static uint64_t warp(int kind, unsigned mask, uint64_t value, unsigned source, int line)
{
    unsigned own = (unsigned)number(thread), first = own & ~31u;
    if (size - first < 32) /* the last warp may have fewer threads */
        mask &= (1u << (size - first)) - 1;
    thread->state = WARP;
    thread->kind = kind;
    thread->line = line;
    thread->mask = mask;
    thread->value = value;
    thread->source = source;
    if (!(mask >> (own & 31) & 1))
        FAIL("block %u: thread %u is in %s of line %d, whose mask %08x does not name it", block->index, own,
             names[kind], line, mask);
    uint32_t *arrived = &block->lanes[first / 32];
    *arrived |= 1u << (own & 31);
    if ((*arrived & mask) == mask) {
        *arrived &= ~mask;
        exchange(&block->threads[first], mask);
    }
    leave();
    return thread->value;
}

static void pause_(void)
{
    thread->state = PAUSED;
    push((unsigned)number(thread));
    leave();
}

static unsigned active(void)
{
    unsigned first = (unsigned)number(thread) & ~31u, mask = 0;
    for (unsigned i = 0; i < 32 && first + i < size; i++)
        mask |= (unsigned)(block->threads[first + i].state != DONE) << i;
    return mask;
}
"""

_SHARED = """\
/* memory of the block, the same for every thread that asks at this site, NaN until it is written */
static char *region(const void *site, size_t bytes)
{
    int i = 0;
    for (; i < block->regions; i++)
        if (block->region[i].site == site)
            return block->region[i].memory + FENCE;
    if (i == REGIONS)
        FAIL("block %u: more than %d places ask for shared memory", block->index, REGIONS);
    struct region *r = &block->region[i];
    size_t room = (bytes + FENCE - 1) / FENCE * FENCE + 2 * FENCE;
    if (r->memory)
        __asan_unpoison_memory_region(r->memory, r->room);
    if (room > r->room) {
        free(r->memory);
        r->memory = aligned_alloc(FENCE, room);
        r->room = r->memory ? room : 0;
        if (!r->memory)
            FAIL("block %u: no memory for %zu bytes of shared memory", block->index, bytes);
    }
    r->site = site;
    r->bytes = bytes;
    block->regions++;
    memset(r->memory, 0xa5, FENCE);
    memset(r->memory + FENCE, 0xff, bytes);
    memset(r->memory + FENCE + bytes, 0xa5, r->room - FENCE - bytes);
    __asan_poison_memory_region(r->memory, FENCE);
    __asan_poison_memory_region(r->memory + FENCE + bytes, r->room - FENCE - bytes);
    return r->memory + FENCE;
}

static char *shared(const void *site, size_t bytes)
{
    size_t total = bytes;
    for (int i = 0; i < block->regions; i++)
        total += block->region[i].site == site || block->region[i].site == &dynamic_bytes ? 0 : block->region[i].bytes;
    if (total > STATIC_SHARED)
        FAIL("block %u: asks for %zu bytes of shared memory, and there are %d", block->index, total, STATIC_SHARED);
    return region(site, bytes);
}

static void fault(const char *what, int line)
{
    FAIL("block %u: thread %d %s (line %d)", block->index, number(thread), what, line);
}

static char *dynamic(void) { return region(&dynamic_bytes, dynamic_bytes); }

static void look_at_fences(void)
{
    for (int i = 0; i < block->regions; i++) {
        struct region *r = &block->region[i];
        __asan_unpoison_memory_region(r->memory, r->room);
        for (size_t j = 0; j < r->room; j++)
            if ((j < FENCE || j >= FENCE + r->bytes) && r->memory[j] != (char)0xa5)
                say("block %u: a thread wrote at byte %ld of shared memory that has %zu", block->index,
                    (long)j - FENCE, r->bytes);
    }
}
"""

_LAUNCH = """\
static void explain_warp(const struct thread *t)
{
    const struct thread *lanes = block->threads + (number(t) & ~31), *other = lanes;
    while (!(t->mask >> (other - lanes) & 1) || (block->lanes[number(t) / 32] >> (other - lanes) & 1))
        if (++other == lanes + 32) {
            other = t;
            break;
        }
    char place[80];
    snprintf(place, sizeof place, "waits in %s of line %d", names[other->kind], other->line);
    say("block %u: thread %d waits in %s of line %d (mask %08x) for thread %d, which %s", block->index, number(t),
        names[t->kind], t->line, t->mask, number(other),
        other->state == DONE ? "left the kernel" : other->state == PAUSED ? "spins" : place);
}

/* why no thread goes on */
static void explain(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        block = &blocks[i];
        const struct thread *left = NULL, *waits = NULL;
        for (unsigned j = 0; j < size; j++) {
            const struct thread *t = &block->threads[j];
            if (t->state == WARP)
                explain_warp(t);
            left = left || t->state != DONE ? left : t;
            waits = waits || t->state != BARRIER ? waits : t;
        }
        if (left && waits)
            say("block %u: thread %d left the kernel while %u threads wait in %s of line %d", block->index,
                number(left), block->arrived, names[waits->kind], waits->line);
    }
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; block = &blocks[i], j < size; j++)
            if (block->threads[j].state == PAUSED)
                say("block %u: thread %u waits for something that no other thread will do", block->index, j);
    say("no thread can go on");
}

static void start(struct block *b, unsigned index)
{
    b->index = index;
    b->head = b->done = b->arrived = 0;
    b->ready = size;
    b->regions = 0;
    memset(b->lanes, 0, sizeof b->lanes);
    arrange(b->queue, size);
    for (unsigned i = 0; i < size; i++)
        b->threads[i].state = FRESH;
}

/* the first n blocks, to their end */
static void finish(unsigned n)
{
    for (unsigned left = n, passes = 0; left && !failed; passes = progress ? 0 : passes + 1) {
        int ran = progress = 0;
        arrange(blocks_turn, n);
        for (unsigned i = 0; i < n && !failed; i++) {
            block = &blocks[blocks_turn[i]];
            if (block->done == size)
                continue;
            host.block.x = block->index;
            for (budget = block->ready; budget && !failed; ran = 1)
                resume(&block->threads[pop()]);
            if (!failed && block->done == size) {
                look_at_fences();
                left--;
            }
        }
        if (!failed && left && (!ran || passes > PATIENCE))
            explain(n);
    }
}

#ifdef GN_ASAN /* which tells more of a bad address than is told here */
static void catch_signals(void) {}
static void release_signals(void) {}
#else
static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction usual[4];
static char signal_stack[1 << 16];
static stack_t usual_stack;
static __thread int launching; /* other threads' signals are not ours */

/* the kernel's thread ends here, as in FAIL; whatever is not a kernel's happens again, to whom it concerned before */
static void on_signal(int number_of_signal, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    for (int i = 0; i < 4 && !(launching && fiber); i++)
        if (caught[i] == number_of_signal)
            sigaction(number_of_signal, &usual[i], NULL);
    if (!(launching && fiber))
        return;
    say("block %u: thread %d %s", block->index, number(thread),
        number_of_signal == SIGFPE ? "divides by zero" : "uses an address where there is no memory for it");
    gn_switch(&fiber->sp, scheduler);
}

static void catch_signals(void)
{
    struct sigaction own = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    own.sa_sigaction = on_signal;
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&stack, &usual_stack);
    for (int i = 0; i < 4; i++)
        sigaction(caught[i], &own, &usual[i]);
    launching = 1;
}

static void release_signals(void)
{
    launching = 0;
    for (int i = 0; i < 4; i++)
        sigaction(caught[i], &usual[i], NULL);
    sigaltstack(&usual_stack, NULL);
}
#endif

static int room_for(unsigned n)
{
    if (n <= room)
        return 1;
    struct block *more = realloc(blocks, n * sizeof *blocks);
    if (more) {
        blocks = more;
        memset(blocks + room, 0, (n - room) * sizeof *blocks);
        unsigned *turns = realloc(blocks_turn, n * sizeof *turns);
        if (turns) {
            blocks_turn = turns;
            room = n;
            return 1;
        }
    }
    say("no memory for %u blocks at once", n);
    return 0;
}

const struct gn_host *gn_runtime(void)
{
    host.barrier = barrier;
    host.warp = warp;
    host.pause = pause_;
    host.active = active;
    host.shared = shared;
    host.dynamic = dynamic;
    host.fault = fault;
    return &host;
}

/* runs a kernel; what went wrong, or NULL */
const char *gn_launch(void (*call)(const void *const *), const void *const *values, unsigned grid, unsigned threads,
                      size_t bytes, int cooperative, int how, uint64_t number_of_order)
{
    kernel = call;
    arguments = values;
    size = threads;
    dynamic_bytes = bytes;
    order = (enum order)how;
    seed = number_of_order * 0x9e3779b97f4a7c15ULL | 1;
    failed = 0;
    host.threads = (struct gn_index){threads, 1, 1};
    host.blocks = (struct gn_index){grid, 1, 1};
    catch_signals();
    if (room_for(cooperative ? grid : 1)) {
        for (unsigned i = 0; i < grid && !failed; i++) {
            start(&blocks[cooperative ? i : 0], cooperative || order != REVERSE ? i : grid - 1 - i);
            if (!cooperative)
                finish(1);
        }
        if (cooperative)
            finish(grid);
    }
    release_signals();
    if (failed) {
        idle = NULL;
        for (struct fiber *f = fibers; f; f = f->next)
            prepare(f);
    }
    return failed ? message : NULL;
}
"""

RUNTIME = "\n".join([INTERFACE, _STATE, _SWITCH, _FIBERS, _WAITS, _SHARED, _LAUNCH])
