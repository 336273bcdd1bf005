"""The pool of threads: regions, barriers, callers beside and inside each other, forks, and the threads' state."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import threading

import pytest

from graphnet.kernels.c import threads, toolchain

# Every region has three phases; each reads what the other threads wrote in the one before.
# What an object needs that uses the pool of its process.
POINTERS = """\
static int (*gn_parallel)(void (*work)(void *argument, int tid), void *argument, int threads);
static void (*gn_barrier)(void);

void gn_bind(int (*parallel)(void (*)(void *, int), void *, int), void (*barrier)(void))
{
    gn_parallel = parallel;
    gn_barrier = barrier;
}
"""

WORK = """
struct sums {
    int threads;
    long faults;
    long cells[64][16];
    long totals[64][16];
};

static void add_up(void *argument, int tid)
{
    struct sums *sums = argument;
    long total = 0;
    sums->cells[tid][0] += tid + 1;
    gn_barrier();
    for (int i = 0; i < sums->threads; ++i)
        total += sums->cells[i][0];
    gn_barrier();
    sums->totals[tid][0] = total;
    sums->cells[tid][0] += 1;
    gn_barrier();
    for (int i = 0; i < sums->threads; ++i)
        if (sums->totals[i][0] != total || sums->cells[i][0] < 2)
            sums->totals[tid][1] = 1;
}

/* The number of regions with a wrong result. */
long stress(int threads, int regions)
{
    static __thread struct sums sums;
    memset(&sums, 0, sizeof sums);
    sums.threads = threads;
    for (int region = 1; region <= regions; ++region) {
        if (gn_parallel(add_up, &sums, threads))
            return -1;
        const long each = (long)threads * (threads + 1) / 2 + threads;
        long wrong = 0;
        for (int i = 0; i < threads; ++i)
            wrong |= sums.totals[i][1] || sums.totals[i][0] != region * each - threads;
        sums.faults += wrong;
    }
    return sums.faults;
}

struct nest {
    int outer;
    int inner;
    long counts[8][8];
    long seen[8];
};

struct part {
    struct nest *nest;
    int row;
};

static void inner(void *argument, int tid)
{
    struct part *part = argument;
    part->nest->counts[part->row][tid] = 1;
    gn_barrier();
    long count = 0;
    for (int i = 0; i < part->nest->inner; ++i)
        count += part->nest->counts[part->row][i];
    if (tid == part->nest->inner - 1)
        part->nest->seen[part->row] += count;
    gn_barrier();
}

static void alone(void *argument, int tid)
{
    struct part *part = argument;
    if (part->row == 0)
        gn_barrier(); /* of this region of one thread, so it waits for nobody */
    if (tid || gn_parallel(inner, part, part->nest->inner))
        part->nest->seen[part->row] -= 1000;
}

static void outer(void *argument, int tid)
{
    struct part part = {argument, tid};
    if (gn_parallel(inner, &part, part.nest->inner) || gn_parallel(alone, &part, 1))
        part.nest->seen[tid] -= 1000;
    gn_barrier();
    for (int i = 0; i < part.nest->outer; ++i)
        if (part.nest->seen[i] != 2 * part.nest->inner)
            part.nest->seen[tid] -= 1000;
    gn_barrier();
}

/* Regions inside regions: 0 if every one ran whole. */
int nested(int threads, int within)
{
    struct nest nest = {.outer = threads, .inner = within};
    if (gn_parallel(outer, &nest, threads))
        return -1;
    for (int i = 0; i < threads; ++i)
        if (nest.seen[i] != 2 * within)
            return 1;
    return 0;
}
"""

STATE = """
#include <fenv.h>
#include <pthread.h>
#include <signal.h>

static volatile float three = 3;
static float thirds[8];
static int masks[8];

static void look(void *argument, int tid)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    masks[tid] = sigismember(&mask, SIGINT) | sigismember(&mask, SIGUSR1) << 1 | sigismember(&mask, SIGSEGV) << 2;
    thirds[tid] = 1 / three;
    (void)argument;
}

/* 0 if all threads round as the caller does. */
int rounding(int threads)
{
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
    float first = 0;
    int wrong = 0, different = 0;
    for (int i = 0; i < 4; ++i) {
        fesetround(modes[i]);
        gn_parallel(look, NULL, threads);
        first = i ? first : thirds[0];
        different |= thirds[0] != first;
        for (int tid = 0; tid < threads; ++tid)
            wrong |= thirds[tid] != thirds[0];
    }
    return wrong || !different;
}

/* Which of SIGINT, SIGUSR1 and SIGSEGV thread `tid` blocks, as bits. */
int blocked(int threads, int tid)
{
    gn_parallel(look, NULL, threads);
    return masks[tid];
}
"""

NO_BARRIER = """
#ifdef NO_BARRIER
#define gn_barrier() (void)0
#endif
"""

PROGRAM = """
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int forked(int threads)
{
    const pid_t child = fork();
    int status = 1;
    if (child == 0)
        _exit(stress(threads, 20) != 0 || nested(2, 2) || stress(threads + 1, 20));
    waitpid(child, &status, 0);
    return status;
}

static int stopped;

static void *keep_busy(void *argument)
{
    long *faults = argument;
    while (!__atomic_load_n(&stopped, __ATOMIC_RELAXED))
        *faults += stress(3, 5);
    return NULL;
}

static void doze(void)
{
    const struct timespec long_enough = {0, 3000000};
    nanosleep(&long_enough, NULL);
}

int main(int count, char **words)
{
    const char *test = count > 1 ? words[1] : "";
    int failed = 1;
    if (!strcmp(test, "stress")) {
        pthread_t other;
        long faults = 0;
        pthread_create(&other, NULL, keep_busy, &faults);
        failed = 0;
        for (int threads = 2; threads <= 6; ++threads)
            failed |= stress(threads, 60) != 0;
        failed |= nested(2, 2) || nested(2, 5);
        __atomic_store_n(&stopped, 1, __ATOMIC_RELAXED);
        pthread_join(other, NULL);
        failed |= faults != 0;
    } else if (!strcmp(test, "asleep")) {
        failed = 0;
        for (int i = 0; i < 30; ++i) {
            failed |= stress(4, 1) != 0;
            doze();
        }
    } else if (!strcmp(test, "fork")) {
        failed = forked(2) || stress(3, 20) || forked(3) || (doze(), forked(4)) || stress(4, 20);
    } else if (!strcmp(test, "fork beside")) {
        pthread_t other;
        long faults = 0;
        pthread_create(&other, NULL, keep_busy, &faults);
        failed = 0;
        for (int i = 0; i < 20; ++i)
            failed |= forked(2);
        __atomic_store_n(&stopped, 1, __ATOMIC_RELAXED);
        pthread_join(other, NULL);
        failed |= faults != 0;
    } else if (!strcmp(test, "exhausted")) {
        struct rlimit limit, none;
        failed = stress(2, 20) != 0;
        getrlimit(RLIMIT_AS, &limit);
        none = limit;
        none.rlim_cur = 1 << 20;
        setrlimit(RLIMIT_AS, &none);
        failed |= stress(6, 1) != -1 || gn_prepare(6) != EAGAIN || nested(2, 6) == 0;
        failed |= stress(2, 20) != 0;
        setrlimit(RLIMIT_AS, &limit);
        failed |= stress(6, 20) != 0 || nested(2, 6) != 0;
    }
    if (failed)
        printf("%s: failed\\n", test);
    return failed;
}
"""


@pytest.fixture(scope="module")
def compiler():
    found = toolchain.find()
    if found is None:
        pytest.skip("needs a C compiler")
    return found


@pytest.fixture(scope="module")
def library(compiler):
    """An object that uses this process's pool, as plans do."""
    source = f"#include <string.h>\n{POINTERS}{WORK}{STATE}"
    made = toolchain.load(source, compiler, ("-Wall", "-Wextra", "-Werror", "-frounding-math"))
    made.stress.restype = ctypes.c_long
    pool = threads.runtime(compiler)
    assert pool.gn_prepare(2) == 0
    made.gn_bind(pool.gn_parallel, pool.gn_barrier)
    return made


@pytest.fixture(scope="module")
def build(compiler, tmp_path_factory):
    """``build(*options)`` makes the stand-alone program; returns (path, the compiler's result)."""
    folder = tmp_path_factory.mktemp("threads")
    (folder / "program.c").write_text(f"{threads.RUNTIME}{NO_BARRIER}{WORK}{PROGRAM}")

    def run(*options):
        path = folder / "-".join(["program", *options]).replace("=", "")
        own = [flag for flag in compiler.flags if flag != "-shared"]
        words = [*compiler.command, *own, *threads.FLAGS, *options, str(folder / "program.c"), "-o", str(path)]
        return path, subprocess.run(words, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def program(build):
    path, done = build("-Wall", "-Wextra", "-Werror")
    assert done.returncode == 0, done.stderr
    return path


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("count", range(1, 9))
def test_regions_and_barriers(library, count):
    """Each thread sees what all others wrote before the barrier, in every one of many regions in a row."""
    assert library.stress(count, 20000 if count <= threads.usable_cores() else 200) == 0


def test_the_number_of_threads_may_change_from_region_to_region(library):
    """Threads that sat out have not counted the barriers of others."""
    for count in (8, 2, 5, 1, 3, 8, 4):
        assert library.stress(count, 30) == 0


@pytest.mark.parametrize(("count", "within"), [(2, 2), (2, 5), (4, 3)])
def test_a_region_inside_a_region_runs_whole(library, count, within):
    assert library.nested(count, within) == 0


def test_callers_beside_each_other_take_turns(library):
    """ctypes lets go of the interpreter, so these regions do compete."""
    found = {}

    def call(name, count):
        found[name] = library.stress(count, 2000 if count == 2 else 300)

    callers = [threading.Thread(target=call, args=(i, 2 + i % 3)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == {0: 0, 1: 0, 2: 0, 3: 0}


def test_threads_round_as_their_caller(library):
    """The floating-point mode is part of the region."""
    assert library.rounding(4) == 0


def test_threads_leave_signals_to_the_caller(library):
    """Ctrl-C must reach Python's thread; a fault must reach whoever reports faults."""
    assert library.blocked(3, 0) == 0
    assert library.blocked(3, 1) == library.blocked(3, 2) == 0b011


def test_more_threads_than_there_can_be_are_an_error(library, compiler):
    """Nothing is run then, and the pool works on."""
    assert threads.runtime(compiler).gn_prepare(257) == errno.EINVAL
    assert library.nested(2, 257) != 0
    assert library.nested(257, 2) == -1
    assert library.stress(2, 10) == 0


@pytest.mark.parametrize("test", ["asleep", "fork", "fork beside", "exhausted"])
def test_a_program_with_the_pool_pasted_in(program, test):
    """Workers gone to sleep wake up; a forked child has a pool of its own; failing to start threads is reported."""
    assert run(program, test) == (0, "")


def test_the_thread_sanitizer_finds_nothing(build):
    path, done = build("-fsanitize=thread", "-g")
    if done.returncode:
        pytest.skip(f"the compiler has no thread sanitizer: {done.stderr.splitlines()[-1]}")
    for words in ((path, "stress"), ("setarch", "-R", path, "stress")):
        code, text = run(*words)
        if "unexpected memory mapping" not in text:  # where the system's address layout is too random for it
            break
    else:
        pytest.skip("the thread sanitizer does not run here")
    assert (code, text) == (0, "")


def test_the_thread_sanitizer_would_find_a_missing_barrier(build):
    """A barrier that orders nothing is a race in the same program."""
    path, done = build("-fsanitize=thread", "-g", "-DNO_BARRIER")
    if done.returncode:
        pytest.skip(f"the compiler has no thread sanitizer: {done.stderr.splitlines()[-1]}")
    code, text = run(path, "stress")
    if "unexpected memory mapping" in text:
        pytest.skip("the thread sanitizer does not run here")
    assert code != 0
    assert "data race" in text


def test_usable_cores_are_those_of_this_process():
    assert 1 <= threads.usable_cores() <= (os.cpu_count() or 1)
