"""The header of an exported net, its plans' files, and what its other files share.

Names in C come from ``Export.id``, which is made of ASCII letters, digits and underscores, and from counters;
names that users chose stand in comments and string literals only, where they are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from graphnet.compiler.ir import Type
from graphnet.compiler.printers.text import clean, count, plural
from graphnet.compiler.text.programs import block_comment
from graphnet.export_c_plans import HEADER, Argument, Export, Part
from graphnet.kernels.text.view import CTYPES


def plan_file(e: Export, part: Part) -> str:
    """The plan's text as the backend compiles it, its one global function under a name of its own."""
    head = f"The plan behind {e.id}_{part.mode}: {e.id}.c gives it memory and runs it."
    return f"{block_comment([head])}\n#define gn_run {e.id}_{part.mode}_run\n\n{part.source.text}"


def fill(template: str, e: Export, **values: object) -> str:
    """A template with the export's names and these values."""
    threads = {"threads": e.threads, "in_threads": plural(e.threads, "thread")}
    return Template(template).substitute(id=e.id, ID=e.id.upper(), **threads, **values)


def quoted(text: str) -> str:
    """A C string literal of any text."""
    plain = (chr(c) if 32 <= c < 127 and chr(c) not in '"\\?' else f"\\{c:03o}" for c in text.encode())
    return f'"{"".join(plain)}"'


def header(e: Export) -> str:
    """ID.h."""
    prototypes = []
    for part in e.parts:
        prototypes.append(f"{block_comment(_told(e, part))}\n{prototype(e, part)};\n")
    if e.has("hyper"):
        prototypes.append(fill(HYPER, e, hyper=", ".join(n.partition("/")[2] for n in hyper_names(e))))
    if e.has("initial"):
        prototypes.append(fill(RESET, e))
    return fill(
        HEADER_FILE,
        e,
        title=clean(e.title).replace("*/", "* /"),
        example=_example(e),
        sizes="\n".join(_sizes(e)),
        calls="\n".join(prototypes),
        memory=block_comment(_memory_table(e)),
    )


def _example(e: Export) -> str:
    """How the calls go together, as a comment's lines."""
    step = e.step
    known = {a.name: a.type for part in e.parts for a in part.arguments}
    lines = [f"{_c(t.dtype)} {name}[{_macro(e, name)}_SIZE];" for name, t in known.items()]
    lines += [f"{_c(a.dtype)} {name}[{_macro(e, name)}_SIZE];" for name, a in e.infer.results.items()]
    lines.append(f'{e.id}_net *net = {e.id}_open("{e.id}.weights");')
    if step is not None:
        lines += [f"{_c(step.results['loss'].dtype)} loss;", f"{_call(e, step)};"]
    lines += [f"{_call(e, e.infer)};", f"{e.id}_close(net);"]
    return "\n".join(f" *     {line}" for line in lines)


def _call(e: Export, part: Part) -> str:
    given = [a.name for a in part.arguments] + ["&loss" if n == "loss" else n for n in part.results]
    return f"{e.id}_{part.mode}({', '.join(['net', *given])})"


def prototype(e: Export, part: Part) -> str:
    takes = [f"const {_c(a.type.dtype)} *{a.name}" for a in part.arguments]
    gives = [f"{_c(a.dtype)} *{name}" for name, a in part.results.items()]
    return f"int {e.id}_{part.mode}({', '.join([f'{e.id}_net *net', *takes, *gives])})"


def _told(e: Export, part: Part) -> list[str]:
    told = "Inference." if part.mode == "infer" else "One training step: forward, backward and update."
    lines = [f"{told} Returns {e.id.upper()}_OK or an error."]
    lines += [f"  {a.name:8} {_described(a)}" for a in part.arguments]
    for name, array in part.results.items():
        what = "the loss before the update" if name == "loss" else "written"
        lines.append(f"  {name:8} {what}: {Type(array.shape, array.dtype)}")
    return lines


def _described(a: Argument) -> str:
    other = f", the model's {clean(a.python)}" if a.python not in (a.name, "target") else ""
    return f"read: {a.type}{other}{', each 0 or 1' if a.type.dtype == 'bool' else ''}"


def _sizes(e: Export) -> Iterator[str]:
    """Macros with the number of elements and the shape of each argument and result."""
    known = {a.name: a.type for part in e.parts for a in part.arguments}
    known |= {name: Type(a.shape, a.dtype) for name, a in e.infer.results.items()}
    for name, type_ in known.items():
        yield f"#define {_macro(e, name)}_SIZE {type_.size} /* {type_.dtype} */"
        if type_.shape:
            yield f"#define {_macro(e, name)}_SHAPE {{{', '.join(map(str, type_.shape))}}}"


def _macro(e: Export, name: str) -> str:
    return f"{e.id}_{name}".upper()


def _c(dtype: str) -> str:
    return CTYPES[dtype]


def hyper_names(e: Export) -> list[str]:
    """Hyperparameters, as ``optimizer/lr``."""
    return [entry.name for entry in e.entries if entry.kind == "hyper"]


def _memory_table(e: Export) -> list[str]:
    rows = [("offset", "bytes", "kind", "type", "name")]
    rows += [(count(x.offset), count(x.array.nbytes), x.kind, x.type, clean(x.name)) for x in e.entries]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"The weights file: {HEADER.size} bytes of header, then this memory; numbers are little-endian, arrays",
        'row-major. The header: 8 bytes "graphnet", uint32 version, uint32 number of arrays, uint64 layout (which',
        "model), uint64 bytes that follow it, uint64 checksum (the sum of the 8-byte words that follow, word i",
        "times 2i + 1), zeros.",
    ]
    for a, b, kind, type_, name in rows:
        lines.append(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {kind:{widths[2]}}  {type_:{widths[3]}}  {name}".rstrip())
    return lines


HEADER_FILE = """\
/* $title, compiled by graphnet to C for $in_threads.
 *
$example
 *
 * What can fail returns an error, and ${id}_error() says what in one line. A net serves one thread at a time; several
 * nets may be open. Arguments are row-major, aligned to their elements, and not part of the net's own memory.
 */
#ifndef ${ID}_H
#define ${ID}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the calls return. */
#define ${ID}_OK 0
#define ${ID}_BAD_INDEX 1  /* an id or a label is out of range; parameters are as they were */
#define ${ID}_NO_THREADS 2 /* the system does not give the threads; nothing was run */
#define ${ID}_BAD_NAME 3   /* there is no such thing, or not with that value */
#define ${ID}_BAD_FILE 4   /* the weights file cannot be read or written, or is not one of this model */
#define ${ID}_NO_MEMORY 5

$sizes

typedef struct ${id}_net ${id}_net;

/* The net with the weights of a file; null on an error. */
${id}_net *${id}_open(const char *weights);

/* Frees the net; null is allowed. */
void ${id}_close(${id}_net *net);

$calls
/* An array of the table below by its name, live, and its bytes (which may be null); null if there is none. */
void *${id}_array(${id}_net *net, const char *name, size_t *bytes);

/* Writes everything that a later ${id}_open needs to go on from here: the file is complete or the old one remains. */
int ${id}_save(const ${id}_net *net, const char *path);

/* What the last call of this thread that failed says, in one line. */
const char *${id}_error(void);

$memory

#ifdef __cplusplus
}
#endif
#endif
"""

HYPER = """\
/* Hyperparameters by name: $hyper. A new value holds from the next step on. */
int ${id}_set(${id}_net *net, const char *name, double value);
int ${id}_get(const ${id}_net *net, const char *name, double *value);
"""

RESET = """\
/* Puts every state back to its initial value. */
void ${id}_reset_states(${id}_net *net);
"""
