"""Threads that run as far apart as barriers let them still compute what one thread computes, bit for bit.

The pool here delays each thread by another time after every barrier. Where a barrier is missing, a thread that
is late overwrites, or finds overwritten, what it should not.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphnet as gn
from graphnet.backend_c import CBackend, address
from graphnet.cli.lookup import find_model
from graphnet.compiler.text import hazards
from graphnet.kernels.c import toolchain
from graphnet.train import Run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(toolchain.find() is None, reason="needs a C compiler")]

POOL = """
#include <pthread.h>
#include <unistd.h>

static pthread_barrier_t meeting;
static __thread int me;
static int ascending, count;
static void (*job)(void *, int);
static void *given;

static void skew(void) { usleep(1500 * (ascending ? me : count - 1 - me)); }

static void *run(void *tid)
{
    me = (int)(long)tid;
    skew();
    job(given, me);
    return 0;
}

void order(int up) { ascending = up; }

void barrier(void)
{
    pthread_barrier_wait(&meeting);
    skew();
}

int parallel(void (*work)(void *, int), void *argument, int threads)
{
    pthread_t others[16];
    job = work, given = argument, count = threads;
    pthread_barrier_init(&meeting, 0, threads);
    for (long t = 1; t < threads; ++t)
        pthread_create(&others[t], 0, run, (void *)t);
    run((void *)0);
    for (int t = 1; t < threads; ++t)
        pthread_join(others[t], 0);
    pthread_barrier_destroy(&meeting);
    return 0;
}
"""


@gn.model
def dropped(x):
    x = gn.layers.dropout(gn.relu(gn.layers.dense(x, 24)), 0.5)
    return gn.layers.dense(x, 5)


def small(name, backend):
    """A net of the model's kind that is small enough to be run slowly, and a batch."""
    chosen = np.random.default_rng(0)
    if name == "dropped":
        x, y = chosen.normal(size=(12, 20)).astype("float32"), chosen.integers(0, 5, 12).astype("int32")
        made = gn.compile(
            dropped, gn.spec(x.shape), loss=gn.losses.softmax_cross_entropy, optimizer=gn.optim.Adam(), backend="numpy"
        )
    else:
        model, data = find_model(name).with_data(None, None)
        run = Run(model.function, {**model.recipe, "steps": 4}, data, batch_size=9, backend="numpy")
        made, (x, y) = run.net, next(iter(run.batches(1)))
    # the same net on the backend that was asked for
    return gn.net.Net(made.program, made.input_types, made.target_type, made.optimizer, backend, 0), x, y


def losses_and_parameters(net, x, y):
    found = [net.step(x, y) for _ in range(2)]
    return np.array(found).tobytes(), *(p.tobytes() for p in (*net.params.values(), *net.states.values()))


def apart(net, ascending):
    """Run the net's step on the pool that delays its threads."""
    pool = toolchain.load(POOL, net.backend.compiler, ("-pthread",))
    pool.order(ascending)
    for bound in net._bound.values():
        bound.run._net[1:3] = address(pool.parallel), address(pool.barrier)


MODELS = ("dropped", "linreg", "softmax", "lenet", "charlm")


@pytest.mark.parametrize("name", MODELS)
def test_threads_far_apart_compute_what_one_thread_computes(name):
    expected = losses_and_parameters(*small(name, CBackend(1, least_work=0.0)))
    for ascending in (0, 1):
        net, x, y = small(name, CBackend(3, least_work=0.0))
        apart(net, ascending)
        assert losses_and_parameters(net, x, y) == expected


def test_a_missing_barrier_is_found(monkeypatch):
    """The first barrier that would stand inside the step is left out."""
    real = hazards._conflict
    left_out = []

    def forgetful(before, piece):
        if real(before, piece) and (not left_out or left_out[0] is piece):
            left_out[:] = [piece]
            return False
        return real(before, piece)

    expected = losses_and_parameters(*small("lenet", CBackend(1, least_work=0.0)))
    monkeypatch.setattr(hazards, "_conflict", forgetful)
    different = []
    for ascending in (0, 1):
        # cached text is kept by what the plan is, so this work is not that of any other test
        net, x, y = small("lenet", CBackend(3, least_work=0.25))
        apart(net, ascending)
        different.append(losses_and_parameters(net, x, y) != expected)
    assert any(different)
