"""The way from a Python call into a compiled plan: a built-in function made at run time, compiled once for all plans.

A call takes the arguments' memory as it is (or converts small integers), releases the interpreter's lock, runs
the plan and returns the loss. The interpreter's functions are handed in as pointers, so that no header and no
linking against Python are needed.
"""

from __future__ import annotations

import ctypes

MAX_AXES = 8
MAX_INPUTS = 16


class Input(ctypes.Structure):
    """One argument: what it must be, where its address goes, and memory of the plan's own to convert into."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("itemsize", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.c_int64 * MAX_AXES),
        ("nbytes", ctypes.c_int64),
        ("slot", ctypes.c_void_p),
        ("own", ctypes.c_void_p),
    )


class Call(ctypes.Structure):
    """A plan ready to be called; mirrors ``struct call`` of the text."""

    _fields_ = (
        ("net", ctypes.c_void_p),
        ("run", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
        ("loss_kind", ctypes.c_char),
        ("inputs", ctypes.c_int32),
        ("homes", ctypes.c_int32),
        ("home", ctypes.POINTER(ctypes.c_int64)),
        ("input", Input * MAX_INPUTS),
    )


API = (
    "PyObject_GetBuffer",
    "PyBuffer_Release",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyFloat_FromDouble",
    "PyLong_FromLong",
    "PyBool_FromLong",
    "PyErr_Clear",
    "PyCapsule_New",
    "PyCapsule_GetPointer",
    "PyCFunction_NewEx",
)
"""The interpreter's functions in the order of ``struct api``; all are in its stable interface."""


def api_table() -> ctypes.Array[ctypes.c_void_p]:
    """The addresses of ``API`` in this process."""
    found = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in API]
    return (ctypes.c_void_p * len(found))(*found)


TEXT = """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The interpreter's buffer view and method record, as its stable interface fixes them. */
typedef struct {
    void *buf, *obj;
    ptrdiff_t len, itemsize;
    int readonly, ndim;
    char *format;
    ptrdiff_t *shape, *strides, *suboffsets;
    void *internal;
} view;

struct method {
    const char *name;
    void *(*function)(void *self, void *const *arguments, ptrdiff_t count);
    int flags;
    const char *doc;
};
enum { FASTCALL = 0x0080, ND_AND_FORMAT = 0x0008 | 0x0004, AXES = 8, INPUTS = 16 };

static struct api {
    int (*get_buffer)(void *, view *, int);
    void (*release)(view *);
    void *(*save_thread)(void);
    void (*restore_thread)(void *);
    void *(*new_float)(double);
    void *(*new_long)(long);
    void *(*new_bool)(long);
    void (*clear)(void);
    void *(*new_capsule)(void *, const char *, void *);
    void *(*pointer)(void *, const char *);
    void *(*new_function)(struct method *, void *, void *);
} py;

struct input {
    char kind;              /* f float, i signed, u unsigned, b bool */
    int32_t itemsize, ndim;
    int64_t shape[AXES], nbytes;
    char **slot;            /* where the plan looks for the argument's address */
    char *own;              /* the plan's own memory for it */
};

struct call {
    void *net;
    int (*run)(void *net, int part);
    uint64_t *counter;      /* the step number of random ops, or null */
    void *loss;
    char loss_kind;
    int32_t inputs, homes;
    int64_t *home;          /* address and bytes of each home: arguments must not lie there */
    struct input input[INPUTS];
};

static char kind_of(const char *format)
{
    if (*format == '=' || *format == '@' || *format == '<')
        ++format;
    if (format[0] == 0 || format[1] != 0)
        return 0;
    if (strchr("fd", *format))
        return 'f';
    if (strchr("bhilq", *format))
        return 'i';
    if (strchr("BHILQ", *format))
        return 'u';
    return *format == '?' ? 'b' : 0;
}

/* The value of an integer of any size; 0 and *fits = 0 for one beyond int64. */
static int64_t integer(const char *p, char kind, ptrdiff_t size, int *fits)
{
    int8_t a; int16_t b; int32_t c; int64_t d;
    switch (size) {
    case 1: memcpy(&a, p, 1); return kind == 'u' ? (uint8_t)a : a;
    case 2: memcpy(&b, p, 2); return kind == 'u' ? (uint16_t)b : b;
    case 4: memcpy(&c, p, 4); return kind == 'u' ? (int64_t)(uint32_t)c : c;
    default:
        memcpy(&d, p, 8);
        if (kind == 'u' && d < 0)
            *fits = 0;
        return d;
    }
}

/* Integers of another width, each checked: 1 if all fit. */
static int convert(const struct input *in, const view *v, char kind)
{
    if ((kind != 'i' && kind != 'u') || in->kind != 'i' || in->itemsize != 4)
        return 0;
    int fits = 1;
    int32_t *target = (int32_t *)in->own;
    const char *source = v->buf;
    for (ptrdiff_t i = 0; i < v->len / v->itemsize; ++i) {
        int64_t value = integer(source + i * v->itemsize, kind, v->itemsize, &fits);
        target[i] = (int32_t)value;
        fits &= target[i] == value;
    }
    return fits;
}

/* Whether the argument fits the plan; notes its address. */
static int take(const struct call *call, const struct input *in, const view *v)
{
    if (v->ndim != in->ndim || v->format == 0)
        return 0;
    for (int d = 0; d < in->ndim; ++d)
        if (v->shape[d] != in->shape[d])
            return 0;
    if (in->slot == 0)
        return 1;
    char kind = kind_of(v->format);
    if (kind != in->kind || v->itemsize != in->itemsize) {
        *in->slot = in->own;
        return convert(in, v, kind);
    }
    int64_t start = (int64_t)(intptr_t)v->buf;
    for (int h = 0; h < call->homes; ++h)
        if (start < call->home[2 * h] + call->home[2 * h + 1] && call->home[2 * h] < start + in->nbytes)
            return 0;
    if (start % in->itemsize)
        return 0;
    *in->slot = v->buf;
    return 1;
}

static void *called(void *self, void *const *arguments, ptrdiff_t count)
{
    struct call *call = py.pointer(self, 0);
    view views[INPUTS];
    int held = 0, fits = count == call->inputs, failed = 0;
    while (fits && held < count) {
        if (py.get_buffer(arguments[held], &views[held], ND_AND_FORMAT)) {
            py.clear();
            fits = 0;
            break;
        }
        ++held;
        fits = take(call, &call->input[held - 1], &views[held - 1]);
    }
    if (fits) {
        void *state = py.save_thread();
        failed = call->run(call->net, 0);
        py.restore_thread(state);
    }
    for (int i = 0; i < held; ++i)
        py.release(&views[i]);
    for (int i = 0; i < call->inputs; ++i)
        if (call->input[i].slot)
            *call->input[i].slot = call->input[i].own;
    if (!fits)
        return py.new_bool(0);
    if (failed)
        return py.new_long(2);
    if (call->counter)
        ++*call->counter;
    if (call->loss_kind == 'f')
        return py.new_float(*(float *)call->loss);
    if (call->loss_kind == 'd')
        return py.new_float(*(double *)call->loss);
    return py.new_bool(1);
}

static struct method method = {"call", called, FASTCALL, 0};

/* A built-in function that runs a plan; the interpreter's lock is held. */
void *gn_entry(const struct api *functions, struct call *call)
{
    py = *functions;
    return py.new_function(&method, py.new_capsule(call, 0, 0), 0);
}
"""
