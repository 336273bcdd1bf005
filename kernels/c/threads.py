"""The pool of threads that runs parallel regions: C text, and the object compiled from it for this process."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from graphnet.kernels.c.toolchain import Compiler, load

FLAGS = ("-pthread", "-O1")
"""Options that RUNTIME needs besides the compiler's own."""

PROTOTYPES = """\
/* Runs work(argument, tid) for tid 0 to threads - 1, tid 0 here and the others on the pool's threads, and
   returns when all are done: 0, or an errno if the threads could not be had; then nothing was run. */
int gn_parallel(void (*work)(void *argument, int tid), void *argument, int threads);

/* To be called by every thread of the running region: returns when all have called it. */
void gn_barrier(void);

/* Starts threads ahead of the first region of this many; returns as gn_parallel does. */
int gn_prepare(int threads);
"""
"""Declares what RUNTIME defines."""

_TYPES = """\
/* Threads that wait for regions of work; while they are awake a region costs no system call. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#define GN_MOST_THREADS 256
#define GN_STACK (2u << 20)
#define GN_FLAT 4 /* up to so many threads, each looks at all others in a barrier */
#define GN_SPIN 5000 /* nanoseconds to wait busily before others may have the core */
#define GN_DOZE 200000 /* nanoseconds to wait for the next region before going to sleep */
#define GN_EVER INT64_MAX

struct gn_region {
    void (*work)(void *argument, int tid);
    void *argument;
    struct gn_slot *slots;
    uint64_t count; /* barriers so far, over all regions of these slots */
    uint64_t mode;
    int threads; /* 0 ends the thread */
    int spin;
};

/* What a thread shares with others. Parts with different writers are on different cache lines, and two lines
   apart, as processors fetch lines in pairs. */
struct gn_slot {
    uint64_t go __attribute__((aligned(128))); /* written by the caller; one higher once the region is there */
    struct gn_region region;
    uint64_t arrived __attribute__((aligned(128))); /* written by the thread: barriers it has come to; never falls */
    int asleep __attribute__((aligned(128)));
    int tid;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

/* Where a thread is in the region that it runs. */
struct gn_place {
    struct gn_region region;
    int tid;
    int inside; /* a region of several threads is running here or around */
};

static __thread struct gn_place gn_here;
static pthread_mutex_t gn_busy = PTHREAD_MUTEX_INITIALIZER; /* held while a region runs; guards what follows */
static struct gn_slot gn_slots[GN_MOST_THREADS];
static uint64_t gn_count;
static int gn_started = 1; /* slot 0 is the caller's */
static int gn_cores;
static int gn_forks; /* whether gn_forked is registered */
"""

_WAITING = """\
static inline void gn_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* as long as x86's pause; yield is over at once */
#endif
}

static int64_t gn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Waits until the counter is at least `target`, at most about `patience` nanoseconds; returns whether it is. The
   other thread may be waiting for this very core, so the core is held for `spin` nanoseconds only. */
static int gn_wait(const uint64_t *counter, uint64_t target, int spin, int64_t patience)
{
    int64_t start = 0, waited = 0;
    do {
        for (int turn = 0; turn < 64; ++turn) {
            if (__atomic_load_n(counter, __ATOMIC_ACQUIRE) >= target)
                return 1;
            if (waited > spin)
                sched_yield();
            else
                gn_pause();
        }
        const int64_t now = gn_now();
        start = start ? start : now;
        waited = now - start;
    } while (waited <= patience);
    return 0;
}

/* Rounding and the treatment of denormals, as this thread's arithmetic has them. */
static uint64_t gn_get_mode(void)
{
#if defined(__SSE2__)
    return __builtin_ia32_stmxcsr() & ~0x3fu; /* without the exceptions seen so far */
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0; /* threads keep what they inherited when they were started */
#endif
}

static void gn_set_mode(uint64_t mode)
{
    if (mode == gn_get_mode())
        return;
#if defined(__SSE2__)
    __builtin_ia32_ldmxcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

static int gn_usable_cores(void)
{
#if defined(__linux__) && defined(SYS_sched_getaffinity)
    unsigned long mask[1024 / sizeof(long)];
    const long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int cores = 0;
    for (long word = 0; word < bytes / (long)sizeof(long); ++word)
        cores += __builtin_popcountl(mask[word]);
    if (cores > 0)
        return cores;
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}
"""

_REGION = """\
void gn_barrier(void)
{
    struct gn_region *region = &gn_here.region;
    struct gn_slot *slots = region->slots;
    const int tid = gn_here.tid, threads = region->threads, spin = region->spin;
    if (threads < 2)
        return;
    const uint64_t target = ++region->count;
    if (threads <= GN_FLAT) {
        __atomic_store_n(&slots[tid].arrived, target, __ATOMIC_RELEASE);
        for (int other = 0; other < threads; ++other)
            gn_wait(&slots[other].arrived, target, spin, GN_EVER);
    } else if (tid == 0) {
        for (int other = 1; other < threads; ++other)
            gn_wait(&slots[other].arrived, target, spin, GN_EVER);
        __atomic_store_n(&slots[0].arrived, target, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(&slots[tid].arrived, target, __ATOMIC_RELEASE);
        gn_wait(&slots[0].arrived, target, spin, GN_EVER);
    }
}

/* This thread's part of a region. Its end counts as one more barrier, for which only tid 0 waits; returns it. */
static uint64_t gn_take_part(const struct gn_region *region, int tid)
{
    const struct gn_place before = gn_here;
    gn_here = (struct gn_place){*region, tid, 1};
    region->work(region->argument, tid);
    const uint64_t end = gn_here.region.count + 1;
    gn_here = before;
    __atomic_store_n(&region->slots[tid].arrived, end, __ATOMIC_RELEASE); /* then the next region may be written */
    return end;
}

static void *gn_thread(void *argument)
{
    struct gn_slot *slot = argument;
    int spin = GN_SPIN;
    for (uint64_t next = 1;; ++next) {
        if (!gn_wait(&slot->go, next, spin, GN_DOZE)) {
            pthread_mutex_lock(&slot->lock);
            __atomic_store_n(&slot->asleep, 1, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&slot->go, __ATOMIC_SEQ_CST) < next)
                pthread_cond_wait(&slot->wake, &slot->lock);
            __atomic_store_n(&slot->asleep, 0, __ATOMIC_RELAXED);
            pthread_mutex_unlock(&slot->lock);
        }
        if (slot->region.threads == 0)
            return NULL;
        spin = slot->region.spin;
        gn_set_mode(slot->region.mode);
        gn_take_part(&slot->region, slot->tid);
    }
}

/* Hands the region to the threads of slots 1 to threads - 1. */
static void gn_send(const struct gn_region *region, int threads)
{
    struct gn_slot *slots = region->slots;
    for (int tid = 1; tid < threads; ++tid) {
        slots[tid].region = *region;
        __atomic_store_n(&slots[tid].go, slots[tid].go + 1, __ATOMIC_RELEASE);
    }
    /* A thread says that it sleeps, then looks at `go`; here it is the other way round, so that one of the two
       sees the other's word. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (int tid = 1; tid < threads; ++tid)
        if (__atomic_load_n(&slots[tid].asleep, __ATOMIC_SEQ_CST)) {
            pthread_mutex_lock(&slots[tid].lock); /* it has begun to wait, or seen `go` */
            pthread_mutex_unlock(&slots[tid].lock);
            pthread_cond_signal(&slots[tid].wake);
        }
}

/* Runs a region on slots that have their threads; returns the barriers so far. */
static uint64_t gn_run(struct gn_region region)
{
    region.mode = gn_get_mode();
    region.spin = region.threads > gn_cores || gn_here.inside ? 0 : GN_SPIN;
    gn_send(&region, region.threads);
    const uint64_t end = gn_take_part(&region, 0);
    for (int tid = 1; tid < region.threads; ++tid)
        gn_wait(&region.slots[tid].arrived, end, region.spin, GN_EVER);
    return end;
}
"""

_POOL = """\
/* A child process has only the thread that forked, so its pool starts anew. */
static void gn_forked(void)
{
    pthread_mutex_init(&gn_busy, NULL);
    memset(gn_slots, 0, (size_t)gn_started * sizeof gn_slots[0]);
    gn_started = 1;
    gn_count = 0;
}

/* Starts a thread that leaves signals to others, but for those that its own faults cause. */
static int gn_create(struct gn_slot *slot, int tid, pthread_t *thread)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all, before;
    pthread_attr_t attributes;
    slot->tid = tid;
    pthread_mutex_init(&slot->lock, NULL);
    pthread_cond_init(&slot->wake, NULL);
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; ++i)
        sigdelset(&all, own[i]);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, GN_STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(thread, &attributes, gn_thread, slot);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

static int gn_start(int threads)
{
    if (threads <= gn_started)
        return 0;
    if (threads > GN_MOST_THREADS)
        return EINVAL;
    int failed = gn_forks ? 0 : pthread_atfork(NULL, NULL, gn_forked);
    gn_forks = !failed;
    gn_cores = gn_usable_cores();
    while (!failed && gn_started < threads) {
        pthread_t thread;
        failed = gn_create(&gn_slots[gn_started], gn_started, &thread);
        if (!failed) {
            pthread_detach(thread);
            ++gn_started;
        }
    }
    return failed;
}

/* A region inside a region: the pool is taken, so it gets threads of its own that end with it. */
static int gn_nested(struct gn_region region)
{
    const int threads = region.threads;
    pthread_t started[GN_MOST_THREADS];
    void *memory;
    if (threads > GN_MOST_THREADS)
        return EINVAL;
    int count = 1, failed = posix_memalign(&memory, _Alignof(struct gn_slot), (size_t)threads * sizeof(struct gn_slot));
    if (failed)
        return failed;
    region.slots = memset(memory, 0, (size_t)threads * sizeof(struct gn_slot));
    while (!failed && count < threads) {
        failed = gn_create(&region.slots[count], count, &started[count]);
        count += !failed;
    }
    if (!failed)
        gn_run(region);
    region.threads = 0;
    gn_send(&region, count);
    for (int tid = 1; tid < count; ++tid)
        pthread_join(started[tid], NULL);
    free(memory);
    return failed;
}

int gn_prepare(int threads)
{
    pthread_mutex_lock(&gn_busy);
    const int failed = gn_start(threads);
    pthread_mutex_unlock(&gn_busy);
    return failed;
}

int gn_parallel(void (*work)(void *argument, int tid), void *argument, int threads)
{
    if (threads < 2) {
        const int around = gn_here.region.threads;
        gn_here.region.threads = 1;
        work(argument, 0);
        gn_here.region.threads = around;
        return 0;
    }
    if (gn_here.inside)
        return gn_nested((struct gn_region){.work = work, .argument = argument, .threads = threads});
    pthread_mutex_lock(&gn_busy);
    const int failed = gn_start(threads);
    if (!failed)
        gn_count = gn_run((struct gn_region){work, argument, gn_slots, gn_count, 0, threads, 0});
    pthread_mutex_unlock(&gn_busy);
    return failed;
}
"""

RUNTIME = "\n".join((_TYPES, PROTOTYPES, _WAITING, _REGION, _POOL))
"""Defines gn_parallel, gn_barrier and gn_prepare; needs nothing else of the file it stands in, and FLAGS."""


def runtime(compiler: Compiler) -> ctypes.CDLL:
    """The process's pool, compiled at first use. Raises ToolchainError."""
    return load(RUNTIME, compiler, FLAGS)


def usable_cores() -> int:
    """How many threads can run at once: the cores this process may use, or fewer where a container limits it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such limit: no cgroup, or its quota is the word max
        return cores
