"""The runtime of emulated kernels, as C text: barriers, warp operations, shared memory, launches.

    barrier    when the last thread arrives, all go back into the block's queue, in the run's order
    shuffle    likewise for the lanes of its mask, each with its value
    launch     block after block; all of them in turn where the launch is cooperative

Whatever leaves no thread that could go on is explained in one line.
"""

from __future__ import annotations

from graphnet.kernels.cuda.emulated_text import INTERFACE
from graphnet.kernels.cuda.fibers import FIBERS

_WAITS = """\
static const char *const names[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and", "__syncthreads_count",
                                    "__syncwarp", "a shuffle", "a ballot"};

/* the running thread, from here on, waits */
static void waits(enum state state, int kind, int line)
{
    thread->state = state;
    thread->kind = kind;
    thread->line = line;
}

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
    waits(BARRIER, kind, line);
    if (++block->arrived == size) {
        block->arrived = 0;
        block->result = (int)(kind == GN_OR ? block->sum != 0 : kind == GN_AND ? block->sum == size : block->sum);
        unsigned turn[MOST];
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
    unsigned turn[32];
    arrange(turn, 32);
    for (unsigned j = 0; j < 32; j++) {
        unsigned i = turn[j];
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
    waits(WARP, kind, line);
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

static void spin(void)
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

_EXPLAIN = """\
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
"""

_SIGNALS = """\
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
    (void)context;
    for (int i = 0; i < 4 && !(launching && fiber); i++)
        if (caught[i] == number_of_signal)
            sigaction(number_of_signal, &usual[i], NULL);
    if (!(launching && fiber))
        return;
    const char *address = info->si_addr, *bottom = fiber->stack;
    say("block %u: thread %d %s", block->index, number(thread),
        number_of_signal == SIGFPE                       ? "divides by zero"
        : address >= bottom - GUARD && address < bottom ? "has more local variables than fit its stack"
                                                         : "uses an address where there is no memory for it");
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
"""

_LAUNCH = """\
static unsigned *sequence, *blocks_turn; /* in which blocks start, and in which those alive have their turns */

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

/* room for that many blocks, so many of them alive at once */
static int room_for(unsigned grid, unsigned alive)
{
    static unsigned most;
    if (grid > most) {
        free(sequence);
        free(blocks_turn);
        sequence = malloc(grid * sizeof *sequence);
        blocks_turn = malloc(grid * sizeof *blocks_turn);
        most = sequence && blocks_turn ? grid : 0;
    }
    struct block *more = alive > room ? realloc(blocks, alive * sizeof *blocks) : NULL;
    if (more) {
        memset(more + room, 0, (alive - room) * sizeof *blocks);
        blocks = more;
        room = alive;
    }
    if (grid > most || alive > room)
        say("no memory for %u blocks", grid);
    return !failed;
}

const struct gn_host *gn_runtime(void)
{
    host.barrier = barrier;
    host.warp = warp;
    host.pause = spin;
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
    if (room_for(grid, cooperative ? grid : 1)) {
        arrange(sequence, grid);
        for (unsigned i = 0; i < grid && !failed; i++) {
            start(&blocks[cooperative ? i : 0], sequence[i]);
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

RUNTIME = "\n".join([INTERFACE, FIBERS, _WAITS, _SHARED, _EXPLAIN, _SIGNALS, _LAUNCH])
