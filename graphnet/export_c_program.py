"""What stands around an exported net: an example program, a Makefile and a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from graphnet.compiler.ir import Type
from graphnet.compiler.printers.text import count
from graphnet.export_c_plans import Argument, Export, Part
from graphnet.export_c_text import fill, hyper_names
from graphnet.kernels.c.prelude import FLAGS, GCC_FLAGS
from graphnet.kernels.c.toolchain import SHARED
from graphnet.kernels.text.view import CTYPES

FORMATS = {"float": ("%.9g", "double"), "double": ("%.17g", "double"), "uint64_t": ("%llu", "unsigned long long")}
"""How results are printed, and as what; integers not named here as long long."""

SUFFIXES = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "bool": "u8", "uint8": "u8"}


def mark(e: Export) -> str:
    """The first line of the Makefile, by which an export is known."""
    return f"# {e.id}: written by graphnet export-c"


def sources(e: Export) -> list[str]:
    """The C files of the net itself."""
    return [f"{e.id}.c", *(f"{e.id}_{part.mode}.c" for part in e.parts), *(["threads.c"] if e.threads > 1 else [])]


def makefile(e: Export) -> str:
    """Builds the example program and a static library with the options of the C backend."""
    options = [f for f in e.backend.compiler.flags if f not in SHARED]
    native = " ".join(f for f in options if f not in (*FLAGS, *GCC_FLAGS))
    maths = " ".join(f for f in FLAGS if f != "-O3")
    pool = " -pthread" if e.threads > 1 else ""
    objects = " ".join(f"{name[:-2]}.o" for name in sources(e))
    gcc = " ".join(GCC_FLAGS)
    return fill(MAKEFILE, e, mark=mark(e), native=native, maths=maths, gcc=gcc, pool=pool, objects=objects)


MAKEFILE = """\
$mark
CC     = cc
CFLAGS = -O3 -Wall -Wextra
# Which processor to compile for: this one. The code runs on any, but its tiles were cut for the exporting machine's.
ARCH   = $native
# Results rest on these: a*b+c is rounded twice but where the text asks for once, and gcc leaves no step out.
MATHS  = $maths $$(if $$(findstring clang,$$(shell $$(CC) --version)),,$gcc)

COMPILE = $$(CC) $$(MATHS) $$(CFLAGS) $$(ARCH) -fPIC$pool
OBJECTS = $objects

$id: main.o lib$id.a
	$$(COMPILE) -o $$@ main.o lib$id.a $$(LDFLAGS) -lm

lib$id.a: $$(OBJECTS)
	rm -f $$@
	$$(AR) rcs $$@ $$(OBJECTS)

%.o: %.c $id.h Makefile
	$$(COMPILE) -c -o $$@ $$<

clean:
	rm -f $id lib$id.a main.o $$(OBJECTS)

.PHONY: clean
"""


# -- the example program ------------------------------------------------------------------------------


def program(e: Export) -> str:
    """main.c."""
    printed = dict.fromkeys(CTYPES[a.dtype] for a in e.infer.results.values() if a.size)
    trains = e.step is not None
    return fill(
        MAIN,
        e,
        usage="\n".join(f'    "{line}\\n"' for line in _usage(e)),
        printers="".join(_printer(e, ctype) for ctype in printed),
        options=fill(OPTIONS, e) if e.has("hyper") else '        stop("%s: is no option", argv[i]);\n',
        infer="\n".join(_infer(e, e.infer)),
        train="\n".join(_train(e, e.step)) + "\n\n" if e.step else "",
        after=2 + len(e.infer.arguments),
        choose=fill(CHOOSE, e, steps=2 + len(e.step.arguments), after=3 + len(e.step.arguments)) if e.step else "",
        save=fill(SAVE, e) if trains else "",
    )


def _usage(e: Export) -> Iterator[str]:
    names = [a.name.upper() for a in e.infer.arguments]
    yield f"usage: ./{e.id} {' '.join(['infer', *names, '[weights=FILE]'])}"
    if e.step is not None:
        hyper = [f"[{name.partition('/')[2]}=VALUE]" for name in hyper_names(e)]
        names = [a.name.upper() for a in e.step.arguments]
        words = ["train", *names, "STEPS", *hyper, "[weights=FILE]", "[save=FILE]"]
        yield f"       ./{e.id} {' '.join(words)}"
    yield ""
    yield "Input files hold raw numbers, one batch after the other; - is standard input. A batch is"
    for a in (e.step or e.infer).arguments:
        yield f"  {a.name.upper():3} {a.type}"
    yield "infer prints the results of each batch, a line for each row."
    if e.step is not None:
        yield "train takes STEPS steps over the batches, again from the first after the last, and prints their losses."
    yield f"Weights are read from {e.id}.weights unless weights= names another file."
    if e.step is not None:
        yield "With save= they are written after training, with all that a later run needs to go on from there."


def _printer(e: Export, ctype: str) -> str:
    form, wide = FORMATS.get(ctype, ("%lld", "long long"))
    return fill(PRINTER, e, ctype=ctype, form=form, wide=wide)


def _reads(e: Export, arguments: Sequence[Argument]) -> Iterator[str]:
    """Statements that read the files of argv[2] and so on."""
    yield "    size_t batches = 0;" if arguments else "    const size_t batches = 1;"
    for i, a in enumerate(arguments):
        nbytes = f"{e.id}_{a.name}_size".upper() + f" * sizeof *{a.name}"
        yield f"    {CTYPES[a.type.dtype]} *{a.name} = read_batches(argv[{2 + i}], {nbytes}, &batches);"


def _given(e: Export, arguments: Sequence[Argument]) -> list[str]:
    return [f"{a.name} + b * {e.id.upper()}_{a.name.upper()}_SIZE" for a in arguments]


def _infer(e: Export, part: Part) -> Iterator[str]:
    several = len(part.results) > 1
    yield f"static void infer({e.id}_net *net, char **argv)"
    yield "{"
    yield from _reads(e, part.arguments)
    for name, array in part.results.items():
        yield f"    static {CTYPES[array.dtype]} {name}[{e.id.upper()}_{name.upper()}_SIZE];"
    yield "    for (size_t b = 0; b < batches; ++b) {"
    yield f"        check({e.id}_infer({', '.join(['net', *_given(e, part.arguments), *part.results])}));"
    for name, array in part.results.items():
        if several:
            yield f'        puts("{name} {Type(array.shape, array.dtype)}");'
        if array.size:
            row = array.shape[-1] if array.shape else 1
            yield f"        print_{CTYPES[array.dtype]}({name}, {prod(array.shape)}, {row});"
    yield "    }"
    yield from (f"    free({a.name});" for a in part.arguments)
    if not part.arguments:
        yield "    (void)argv;"
    yield "}"


def _train(e: Export, part: Part) -> Iterator[str]:
    ctype = CTYPES[part.results["loss"].dtype]
    yield f"static void train({e.id}_net *net, char **argv, long steps)"
    yield "{"
    yield from _reads(e, part.arguments)
    yield "    for (long step = 0; step < steps; ++step) {"
    yield f"        {ctype} loss;"
    if part.arguments:
        yield "        const size_t b = (size_t)step % batches;"
    yield f"        check({e.id}_step({', '.join(['net', *_given(e, part.arguments), '&loss'])}));"
    yield f'        printf("step %ld  loss {FORMATS[ctype][0]}\\n", step + 1, loss);'
    yield "    }"
    yield from (f"    free({a.name});" for a in part.arguments)
    if not part.arguments:
        yield "    (void)argv, (void)batches;"
    yield "}"


MAIN = """\
/* An example of $id.h: arrays from files through the net. Without arguments it says how to call it. */
#include "$id.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
$usage;

__attribute__((noreturn, format(printf, 1, 2))) static void stop(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fputs("$id: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\\n', stderr);
    exit(2);
}

static void check(int error)
{
    if (error)
        stop("%s", ${id}_error());
}

/* Reads a file, which must hold whole batches of so many bytes, and as many of them as files before it. */
__attribute__((unused)) static void *read_batches(const char *path, size_t batch, size_t *batches)
{
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (file == NULL)
        stop("%s: cannot be opened: %s", path, strerror(errno));
    char *data = NULL;
    size_t held = 0, room = 0, got;
    do {
        if (held == room && (data = realloc(data, room = 2 * room + batch)) == NULL)
            stop("%s: there is no memory for it", path);
        got = fread(data + held, 1, room - held, file);
        held += got;
    } while (got);
    if (ferror(file))
        stop("%s: cannot be read: %s", path, strerror(errno));
    if (file != stdin)
        fclose(file);
    if (held == 0 || held % batch)
        stop("%s: %zu bytes are not whole batches of %zu", path, held, batch);
    if (*batches && held / batch != *batches)
        stop("%s: holds %zu batches, the file before it %zu", path, held / batch, *batches);
    *batches = held / batch;
    return data;
}

$printers/* Opens the net and applies the options, from argv[first] on; returns the file to save to, or null. */
static const char *apply(int argc, char **argv, int first, ${id}_net **net)
{
    const char *weights = "$id.weights", *save = NULL;
    for (int i = first; i < argc; ++i)
        if (strncmp(argv[i], "weights=", 8) == 0)
            weights = argv[i] + 8;
    *net = ${id}_open(weights);
    if (*net == NULL)
        stop("%s", ${id}_error());
    for (int i = first; i < argc; ++i) {
        if (strncmp(argv[i], "weights=", 8) == 0)
            continue;
${save}${options}    }
    return save;
}

$infer

${train}int main(int argc, char **argv)
{
    ${id}_net *net = NULL;
    if (argc >= $after && strcmp(argv[1], "infer") == 0) {
        apply(argc, argv, $after, &net);
        infer(net, argv);
${choose}    } else {
        fputs(usage, stderr);
        return 2;
    }
    ${id}_close(net);
    if (fflush(stdout))
        stop("the results cannot be written: %s", strerror(errno));
    return 0;
}
"""

OPTIONS = """\
        char *value = strchr(argv[i], '='), *end = NULL;
        const double number = value ? strtod(value + 1, &end) : 0;
        if (value == NULL || end == value + 1 || *end)
            stop("%s: is no NAME=NUMBER", argv[i]);
        *value = 0;
        check(${id}_set(*net, argv[i], number));
"""

SAVE = """\
        if (strncmp(argv[i], "save=", 5) == 0) {
            save = argv[i] + 5;
            continue;
        }
"""

CHOOSE = """\
    } else if (argc >= $after && strcmp(argv[1], "train") == 0) {
        char *end;
        const long steps = strtol(argv[$steps], &end, 10);
        if (*end || steps < 1)
            stop("%s: is no number of steps", argv[$steps]);
        const char *save = apply(argc, argv, $after, &net);
        train(net, argv, steps);
        if (save)
            check(${id}_save(net, save));
"""

PRINTER = """\
static void print_$ctype(const $ctype *values, size_t count, size_t row)
{
    for (size_t i = 0; i < count; ++i)
        printf("$form%c", ($wide)values[i], (i + 1) % row ? ' ' : '\\n');
}

"""


# -- README -------------------------------------------------------------------------------------------


def readme(e: Export) -> str:
    """README.md."""
    arguments = (e.step or e.infer).arguments
    files = {a.name: f"{a.name}.{SUFFIXES.get(a.type.dtype, 'bin')}" for a in arguments}
    calls = [" ".join([f"./{e.id} infer", *(files[a.name] for a in e.infer.arguments)])]
    if e.step is not None:
        calls.append(" ".join([f"./{e.id} train", *files.values(), f"100 save={e.id}.weights"]))
    held = [f"- `{files[a.name]}`: {a.type}" for a in arguments]
    about = [
        (f"{e.id}.h", "the calls, with the shapes of their arguments, and what the weights file holds"),
        (f"{e.id}.c", "memory, the weights file, the calls"),
        *((f"{e.id}_{part.mode}.c", PLANS[part.mode]) for part in e.parts),
        *([("threads.c", f"the pool of {e.threads} threads that runs them")] if e.threads > 1 else []),
        (f"{e.id}.weights", "parameters and all else that training goes on from"),
        ("main.c", "an example program"),
    ]
    return fill(
        README,
        e,
        title=e.title,
        calls="\n".join(calls),
        held="\n".join(held),
        files="\n".join(f"| `{name}` | {what} |" for name, what in about),
        arena=count(e.arena),
        homes=count(e.nbytes),
    )


PLANS = {"infer": "the plan for inference", "step": "the plan of a training step: forward, backward, update"}

README = """\
# $title in C

Written by graphnet. It needs a C compiler (gcc or clang) and make, nothing else.

```
make
$calls
```

The input files hold raw little-endian numbers, one batch after the other:

$held

`./$id` alone tells the rest. For your own program include `$id.h` and link `lib$id.a`.

| file | what |
|---|---|
$files

A net takes $homes bytes for what lives across calls and $arena bytes for temporaries, all allocated by `${id}_open`.
The plans were made for this batch size and for $in_threads; results do not depend on the number of threads.
`make ARCH=` compiles for any processor of this kind, `make CC=clang` with another compiler.
"""
