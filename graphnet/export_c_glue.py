"""The C file of an exported net that holds its memory, reads and writes its weights, and runs its plans."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from graphnet.compiler.schedule import Array
from graphnet.export_c_plans import Export, Part
from graphnet.export_c_text import fill, prototype, quoted
from graphnet.kernels.c.threads import PROTOTYPES
from graphnet.kernels.text.view import CTYPES

LETTERS = {"slot": "o"}
"""Letters of the kinds of entries; others have their first one."""


def glue(e: Export) -> str:
    """ID.c."""
    calls = [_part_text(e, part) for part in e.parts]
    if e.has("hyper"):
        calls.append(fill(HYPER_CODE, e))
    if e.has("initial"):
        calls.append(fill(RESET_CODE, e))
    plans = "\n".join(f"int {e.id}_{part.mode}_run(struct net *net, int part);" for part in e.parts)
    members = "".join(f"    struct net *{part.mode};\n" for part in e.parts)
    return fill(
        GLUE,
        e,
        plans=plans + (f"\n\n{PROTOTYPES.rstrip()}" if e.threads > 1 else ""),
        members=members,
        bytes=e.nbytes,
        layout=f"{e.layout:#018x}",
        count=len(e.entries),
        arena=e.arena,
        tables="\n".join(_tables(e)),
        pool=POOL if e.threads > 1 else "",
        ready="gn_prepare(THREADS)" if e.threads > 1 else "0",
        make="".join(_made(part) for part in e.parts),
        free="".join(f"    free(net->{part.mode});\n" for part in e.parts),
        calls="\n".join(calls),
    )


def _tables(e: Export) -> Iterator[str]:
    rows = [
        f"    {{{quoted(x.name)}, {x.offset}, {x.array.nbytes}, '{LETTERS.get(x.kind, x.kind[0])}'}},"
        for x in e.entries
    ]
    yield "\n".join([*ENTRIES, *rows, "    {0, 0, 0, 0},", "};", ""])
    for part in e.parts:
        table = ", ".join(str(part.homes.get(s.id, -1)) for s in part.source.table) or "-1"
        yield f"/* Where entry k of the {part.mode} plan's table H is in the net's memory; -1 for arguments. */"
        filled = textwrap.indent(textwrap.fill(table, 110), "    ")
        yield f"static const int64_t {part.mode}_table[] = {{\n{filled}}};\n"
        yield f"/* Steps of the {part.mode} plan that may find an index out of range, and the lines they come from. */"
        places = [f"    {{{position}, {quoted(where)}}}," for position, where in part.places()]
        last = f'    {{-1, "{e.id}_{part.mode}"}},'
        yield "\n".join([f"static const struct place {part.mode}_places[] = {{", *places, last, "};", ""])


ENTRIES = (
    "/* What the weights file holds. Kinds: parameter, state, initial value of the state before it, slot of the",
    "   optimiser (o), hyperparameter, random counter, constant. */",
    "static const struct entry entries[] = {",
)


def _made(part: Part) -> str:
    words = len(part.source.table)
    threaded = "1" if part.source.threads > 1 else "0"
    return f"    net->{part.mode} = new_plan(net, {part.mode}_table, {words}, {threaded});\n"


def _part_text(e: Export, part: Part) -> str:
    """The function that runs a plan."""
    slots = {s.id: k for k, s in enumerate(part.source.table)}
    lines = [prototype(e, part), "{"]
    for a in part.arguments:
        slot = None if a.storage is None else slots.get(a.storage)
        text = f"(void){a.name}" if slot is None else f"put(net->{part.mode}, TABLE + {slot}, &{a.name})"
        lines.append(f"    {text};")
    run = f"{e.id}_{part.mode}_run(net->{part.mode}, 0)"
    lines += [
        f"    const int failed = outcome(net->{part.mode}, {run}, {part.mode}_places);",
        "    if (failed)",
        "        return failed;",
    ]
    if part.random:
        lines.append(f"    ++*(uint64_t *)(net->homes + {e.offset('rng/step')}); /* other random numbers next time */")
    for name, array in part.results.items():
        lines += _copied(part, name, array)
    return "\n".join([*lines, f"    return {e.id.upper()}_OK;", "}\n"])


def _copied(part: Part, name: str, array: Array) -> Iterator[str]:
    """Statements that copy a result from where the plan left it."""
    if not array.size:
        yield f"    (void){name};"
        return
    storage = part.plan.storages[array.storage]
    start, ctype = array.offset * array.itemsize, CTYPES[array.dtype]
    if storage.kind == "temp":
        base = f"net->arena + {storage.offset + start}"
    elif storage.id in part.homes:
        base = f"net->homes + {part.homes[storage.id] + start}"
    else:
        argument = next(a.name for a in part.arguments if a.storage == storage.id)
        base = f"(const char *){argument} + {start}"
    if array.contiguous:
        yield f"    memmove({name}, {base}, {array.nbytes});"
        return
    yield f"    const {ctype} *{name}_from = (const {ctype} *)({base});"
    for axis, n in enumerate(array.shape):
        yield f"    {'    ' * axis}for (long i{axis} = 0; i{axis} < {n}; ++i{axis})"
    index = " + ".join(f"i{axis} * {stride}L" for axis, stride in enumerate(array.strides) if stride)
    yield f"    {'    ' * len(array.shape)}*{name}++ = {name}_from[{index or '0'}];"


GLUE = """\
/* Memory, the weights file, and the calls of $id.h, which run the plans of the files beside this one. */
#include "$id.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(void *) == 8, "the plans are for 64-bit machines");

struct net;
$plans

/* The plan files' `struct net` in words of 8 bytes: arena, pool, what to run, what went wrong; then its table H. */
enum { ARENA, PARALLEL, BARRIER, PART, FAILED, STEP, VALUE, ROWS, TABLE };

#define THREADS $threads
#define LAYOUT UINT64_C($layout)
#define ENTRIES $count
#define HOME_BYTES ((size_t)$bytes)
#define ARENA_BYTES ((size_t)$arena)

struct ${id}_net {
    char *homes; /* the data of the weights file as they lie there */
    char *arena; /* temporaries of whichever plan runs */
$members};

struct header {
    char magic[8];
    uint32_t version, entries;
    uint64_t layout, bytes, sum;
    char zeros[24];
};

struct entry {
    const char *name;
    size_t offset, bytes;
    char kind;
};

struct place {
    int64_t step;
    const char *where;
};

$tables
static _Thread_local char message[512];

const char *${id}_error(void)
{
    return message;
}

__attribute__((format(printf, 2, 3))) static int fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return code;
}

/* Words are copied as bytes: here and in the plans they have different types. */
static void put(struct net *plan, size_t word, const void *value)
{
    memcpy((char *)plan + 8 * word, value, 8);
}

static int64_t get(const struct net *plan, size_t word)
{
    int64_t value;
    memcpy(&value, (const char *)plan + 8 * word, 8);
    return value;
}

static int outcome(const struct net *plan, int failed, const struct place *place)
{
    if (failed == 0)
        return ${ID}_OK;
    if (failed < 0)
        return fail(${ID}_NO_THREADS, "%d threads cannot be started", THREADS);
    while (place->step >= 0 && place->step != get(plan, STEP))
        ++place;
    return fail(${ID}_BAD_INDEX, "%s: index %lld is out of range for %lld rows", place->where,
                (long long)get(plan, VALUE), (long long)get(plan, ROWS));
}

/* -- opening and closing -- */

/* Zeroed memory at a 64-byte boundary. */
static char *memory(size_t bytes)
{
    const size_t whole = (bytes + 127) / 64 * 64;
    char *made = aligned_alloc(64, whole);
    return made ? memset(made, 0, whole) : NULL;
}

static struct net *new_plan(const ${id}_net *net, const int64_t *table, size_t count, int threaded)
{
    struct net *plan = calloc(TABLE + count + 1, 8);
    if (plan == NULL)
        return NULL;
    put(plan, ARENA, &net->arena);
    for (size_t k = 0; k < count; ++k) {
        const char *home = table[k] < 0 ? NULL : net->homes + table[k];
        put(plan, TABLE + k, &home);
    }
    if (threaded) {
$pool    }
    return plan;
}

static uint64_t checksum(const char *data)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < HOME_BYTES / 8; ++i) {
        uint64_t word;
        memcpy(&word, data + 8 * i, 8);
        sum += word * (2 * i + 1);
    }
    return sum;
}

static int load(${id}_net *net, const char *path)
{
    struct header header;
    const char *wrong = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fail(${ID}_BAD_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    if (fread(&header, 1, sizeof header, file) != sizeof header || memcmp(header.magic, "graphnet", 8))
        wrong = "is no weights file";
    else if (header.version != 1)
        wrong = "is of another version, or of a machine with another byte order";
    else if (header.layout != LAYOUT || header.entries != ENTRIES || header.bytes != HOME_BYTES)
        wrong = "belongs to another model, or to another batch size of this one";
    else if (fread(net->homes, 1, HOME_BYTES, file) != HOME_BYTES)
        wrong = "is truncated";
    else if (fgetc(file) != EOF)
        wrong = "is longer than it should be";
    else if (header.sum != checksum(net->homes))
        wrong = "is damaged: its checksum does not match";
    fclose(file);
    return wrong ? fail(${ID}_BAD_FILE, "%s: %s", path, wrong) : ${ID}_OK;
}

static int fill(${id}_net *net, const char *weights)
{
    net->homes = memory(HOME_BYTES);
    net->arena = memory(ARENA_BYTES);
    if (net->homes == NULL || net->arena == NULL)
        return fail(${ID}_NO_MEMORY, "there is no memory for the net");
$make    const int error = $ready;
    if (error)
        return fail(${ID}_NO_THREADS, "%d threads cannot be started: %s", THREADS, strerror(error));
    return load(net, weights);
}

${id}_net *${id}_open(const char *weights)
{
    ${id}_net *net = calloc(1, sizeof *net);
    if (net == NULL)
        fail(${ID}_NO_MEMORY, "there is no memory for the net");
    else if (fill(net, weights)) {
        ${id}_close(net);
        net = NULL;
    }
    return net;
}

void ${id}_close(${id}_net *net)
{
    if (net == NULL)
        return;
$free    free(net->arena);
    free(net->homes);
    free(net);
}

/* -- calls -- */

$calls
void *${id}_array(${id}_net *net, const char *name, size_t *bytes)
{
    for (const struct entry *e = entries; e->name; ++e)
        if (strcmp(e->name, name) == 0) {
            if (bytes)
                *bytes = e->bytes;
            return net->homes + e->offset;
        }
    fail(${ID}_BAD_NAME, "there is no array %s", name);
    return NULL;
}

int ${id}_save(const ${id}_net *net, const char *path)
{
    struct header header = {"", 1, ENTRIES, LAYOUT, HOME_BYTES, checksum(net->homes), ""};
    memcpy(header.magic, "graphnet", 8);
    const size_t length = strlen(path) + 32;
    char *part = malloc(length);
    if (part == NULL)
        return fail(${ID}_NO_MEMORY, "%s: cannot be written: there is no memory", path);
    snprintf(part, length, "%s.%ld.part", path, (long)getpid());
    errno = 0;
    FILE *file = fopen(part, "wb");
    int good = file && fwrite(&header, sizeof header, 1, file) == 1;
    good = good && fwrite(net->homes, 1, HOME_BYTES, file) == HOME_BYTES;
    good = good && fflush(file) == 0 && fsync(fileno(file)) == 0;
    good = (file == NULL || fclose(file) == 0) && good;
    good = good && rename(part, path) == 0;
    const int error = good ? ${ID}_OK : fail(${ID}_BAD_FILE, "%s: cannot be written: %s", path, strerror(errno));
    if (!good)
        remove(part);
    free(part);
    return error;
}
"""

POOL = """\
        int (*parallel)(void (*)(void *, int), void *, int) = gn_parallel;
        void (*barrier)(void) = gn_barrier;
        put(plan, PARALLEL, &parallel);
        put(plan, BARRIER, &barrier);
"""

HYPER_CODE = """\
static double *hyperparameter(const ${id}_net *net, const char *name)
{
    for (const struct entry *e = entries; e->name; ++e)
        if (e->kind == 'h' && strcmp(e->name + strlen("optimizer/"), name) == 0)
            return (double *)(net->homes + e->offset);
    fail(${ID}_BAD_NAME, "there is no hyperparameter %s", name);
    return NULL;
}

int ${id}_set(${id}_net *net, const char *name, double value)
{
    double *home = hyperparameter(net, name);
    if (home == NULL)
        return ${ID}_BAD_NAME;
    if (!(value >= 0))
        return fail(${ID}_BAD_NAME, "%s must be a number of 0 or more", name);
    *home = value;
    return ${ID}_OK;
}

int ${id}_get(const ${id}_net *net, const char *name, double *value)
{
    const double *home = hyperparameter(net, name);
    if (home == NULL)
        return ${ID}_BAD_NAME;
    *value = *home;
    return ${ID}_OK;
}
"""

RESET_CODE = """\
void ${id}_reset_states(${id}_net *net)
{
    for (const struct entry *e = entries; e->name; ++e)
        if (e->kind == 'i')
            memcpy(net->homes + (e - 1)->offset, net->homes + e->offset, e->bytes);
}
"""
