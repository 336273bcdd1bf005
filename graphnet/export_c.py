"""``export_c``: a net as C files that need no Python, to run and to train; ``import_weights`` takes it back.

ID.h ID.c              calls; memory and the weights file      threads.c    the pool, if there are threads
ID_infer.c ID_step.c   the plans, as the C backend has them    main.c       an example program
ID.weights             all that training goes on from          Makefile, README.md
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphnet.compiler.errors import FileError
from graphnet.export_c_glue import glue
from graphnet.export_c_plans import HEADER, MAGIC, VERSION, Export, checksum, prepare
from graphnet.export_c_program import makefile, mark, program, readme
from graphnet.export_c_text import header, plan_file
from graphnet.kernels.c.threads import RUNTIME

if TYPE_CHECKING:
    from graphnet.net import Net


def export_c(net: Net, folder: str | os.PathLike[str], threads: int | None = None, force: bool = False) -> Path:
    """Write the net to a folder as C source, header, weights and Makefile; returns the folder.

    It can run inference and, if the net has an optimiser, train on from where the net is, for the shapes it was
    compiled for, with results that equal those of the C backend bit for bit. ``threads`` are as many as the
    net's own unless given. The same net gives the same bytes.

    A new folder is complete or not there. In one that holds an export of this model the files are replaced one
    by one, others stay; any other folder that is not empty is refused, but for ``force``. Raises FileError, and
    BackendError where no C compiler says what processor to write for.
    """
    target = Path(folder)
    with net._lock:
        net._settle()
        made = prepare(net, threads)
        _check(target, made, force)
        files = _files(made)
    _write(target, files, made)
    return target


def import_weights(net: Net, path: str | os.PathLike[str]) -> None:
    """Read the weights file of an export of this net back: parameters, optimiser, states, random counters.

    Raises FileError, one line, for a file that is none of this net's, and then changes nothing.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise FileError(f"{path}: is no weights file of an exported net")
    _, version, count, layout, size, total = HEADER.unpack_from(data)
    made = prepare(net)
    if version != VERSION or (count, layout, size) != (len(made.entries), made.layout, made.nbytes):
        raise FileError(f"{path}: belongs to another model, or to another batch size of this one")
    body = memoryview(data)[HEADER.size :]
    if len(body) != size or checksum(body) != total:
        raise FileError(f"{path}: is truncated or damaged, its size or checksum does not match")
    with net._lock:
        net._loaded = None  # hyperparameters are put in again at the next step
        for e in made.entries:
            if e.kind in ("initial", "constant"):
                continue
            value = np.frombuffer(body, e.array.dtype, e.array.size, e.offset).reshape(e.array.shape)
            if e.kind == "hyper":
                setattr(net.optimizer, e.name.partition("/")[2], float(value))
            else:
                net.backend.write(e.array, value)


def _files(e: Export) -> dict[str, bytes]:
    """All files by name."""
    texts = {f"{e.id}.h": header(e), f"{e.id}.c": glue(e), "main.c": program(e)}
    texts |= {f"{e.id}_{part.mode}.c": plan_file(e, part) for part in e.parts}
    texts |= {"threads.c": RUNTIME} if e.threads > 1 else {}
    texts |= {"Makefile": makefile(e), "README.md": readme(e)}
    return {**{name: text.encode() for name, text in texts.items()}, f"{e.id}.weights": e.weights()}


def _check(target: Path, e: Export, force: bool) -> None:
    """Raises FileError if the folder is not to be written to."""
    try:
        if target.exists() and not target.is_dir():
            raise FileError(f"{target}: is a file: name a folder")
        if not target.parent.is_dir():
            raise FileError(f"{target}: there is no folder {target.parent}: make it, or name another")
        if force or not target.exists() or not any(target.iterdir()) or _is_export(target, e):
            return
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from None
    raise FileError(f"{target}: is not empty, and no export of {e.title}: name another folder, or pass force (--force)")


def _is_export(folder: Path, e: Export) -> bool:
    try:
        with (folder / "Makefile").open("rb") as file:
            return file.readline(200).rstrip(b"\n") == mark(e).encode()
    except FileNotFoundError:
        return False


def _write(target: Path, files: Mapping[str, bytes], e: Export) -> None:
    """Write the files beside their place and rename: the folder if it is new, else one after the other."""
    new = not target.exists()
    work = ""
    try:
        work = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent if new else target)
        for name, data in files.items():
            with open(Path(work, name), "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if new:
            os.chmod(work, 0o777 & ~_umask())
            os.rename(work, target)
            return
        for name in files:
            os.replace(Path(work, name), target / name)
        for name in (f"{e.id}_step.c", "threads.c"):
            if name not in files and _is_export(target, e):  # of an earlier export, and not used any more
                (target / name).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
