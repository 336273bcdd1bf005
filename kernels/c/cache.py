"""The folder of compiled objects: safe with many processes at once, with damage, and with other users.

    <folder>/<key>/code.so   the object          <folder>/locks/    one process builds a key, others wait
                   code.c    what it was made of <folder>/tmp-*/    work under way
                   sum       its digest          <folder>/failed-*/ what a compiler refused
    <folder>/<key>/plan      what code is made of, of graphnet.compiler.kept, and sum

An entry is a folder that is filled under another name and then renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import itertools
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

OBJECT = "code.so"
SUM = "sum"
BOUND = 512 << 20
"""Bytes beyond which the entries that were not used for longest are removed."""
PATIENCE = 60.0
"""Seconds to wait for another process that builds the same entry, before building it here as well."""
WORK_AGE = 3600.0
"""Seconds after which an unfinished folder must be a killed process's."""

Build = Callable[[Path], None]
"""Makes the entry's file in the folder it is given; raises ToolchainError."""

_temporary: list[Path] = []  # the last one is in use; a forked child uses its parent's while it is there


class ToolchainError(Exception):
    """The C compiler, its cache or what it made cannot be used: one line with the remedy, details below it."""


def chosen_folder() -> Path:
    """Where compiled code belongs: ``c`` in ``$GRAPHNET_CACHE`` or in the platform's cache folder for graphnet."""
    chosen = os.environ.get("GRAPHNET_CACHE")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen))) / "c"
    if sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "graphnet" / "c"


def folder() -> Path:
    """The folder in use, made with mode 0700 if need be.

    Where the chosen one cannot be written, or could be by others, it is a temporary one of this process, and a
    line on stderr says so once. Raises ToolchainError if that cannot be made either.
    """
    path = chosen_folder()
    fault = _fault(path)
    if fault is None:
        return path
    private = _temporary[-1] if _temporary else None
    if private is None or not private.is_dir():
        remedy = "set GRAPHNET_CACHE to a folder of your own"
        try:
            private = Path(tempfile.mkdtemp(prefix="graphnet-c-"))
        except OSError as error:
            raise ToolchainError(f"{path}: {fault}, and there is no temporary folder ({error}): {remedy}") from error
        _temporary.append(private)
        atexit.register(_remove_own, private, os.getpid())
        print(f"graphnet: {path}: {fault}: compiled code is not kept: {remedy}", file=sys.stderr)
    return private


def obtain(key: str, build: Build, file: str = OBJECT) -> Path:
    """The file that entry ``key`` holds, built if it is absent or damaged. Raises ToolchainError."""
    base = folder()
    entry = base / key
    if _whole(entry, file) is not None:
        return entry / file
    try:
        with _lock(base, key), workspace(base) as work:
            if _whole(entry, file) is None:
                build(work)
                _seal(work, file)
                _publish(work, entry, file)
                _prune_sometimes(base, key)
    except OSError as error:
        raise ToolchainError(f"{base}: compiled code cannot be kept: {error}: see that it can be written") from error
    return entry / file


def read(key: str, file: str) -> bytes | None:
    """What is in the file that entry ``key`` holds, None if it is absent or damaged. Raises ToolchainError."""
    return _whole(folder() / key, file)


def load(key: str, build: Build) -> ctypes.CDLL:
    """The loaded object of entry ``key``; if it does not load it is built once more. Raises ToolchainError.

    Whoever asks for the same key in the same process gets the same object, static variables included.
    """
    mode = os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_NODELETE", 0)
    for _ in range(3):  # another process may throw the same bad entry away, at worst just before the second try
        path = obtain(key, build)
        tried = _inode(path)
        try:
            return ctypes.CDLL(str(path), mode=mode)
        except OSError as error:
            reason = error
            if tried == _inode(path):
                discard(path.parent)
    raise ToolchainError(f"{path}: was compiled but cannot be loaded: {reason}") from reason


def sources(*folders: Path) -> str:
    """The Python files in folders and below, with sizes and times: what a key says of the code that makes an entry."""
    found = []
    for place, _, names in itertools.chain.from_iterable(map(os.walk, folders)):
        for path in (os.path.join(place, name) for name in names if name.endswith(".py")):
            with contextlib.suppress(FileNotFoundError):  # a mark that an editor leaves beside a file
                state = os.stat(path)
                found.append(f"{path}:{state.st_size}:{state.st_mtime_ns}")
    return " ".join(sorted(found))


@contextlib.contextmanager
def workspace(base: Path) -> Iterator[Path]:
    """A fresh folder in ``base`` that is gone afterwards, unless it was renamed."""
    path = Path(tempfile.mkdtemp(prefix="tmp-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def discard(entry: Path) -> None:
    """Remove an entry; processes that loaded it keep what they have."""
    doomed = entry.with_name(f"tmp-{entry.name[:16]}-{os.getpid()}-{time.monotonic_ns()}")
    try:
        os.rename(entry, doomed)
    except FileNotFoundError:  # another process was first
        return
    if doomed.is_dir():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink(missing_ok=True)


def keep_failure(work: Path, key: str) -> Path:
    """Move ``work`` to where a person may look at it; returns that folder."""
    target = work.parent / f"failed-{key}"
    discard(target)
    os.rename(work, target)
    return target


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix="tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def usage(base: Path) -> tuple[int, int]:
    """(entries, bytes) in a cache folder."""
    sizes = [size for _, size, _ in _entries(base)]
    return len(sizes), sum(sizes)


def prune(base: Path, bound: int) -> None:
    """Remove the entries used longest ago until the rest fit ``bound`` bytes, and killed processes' work."""
    entries = sorted(_entries(base))
    total = sum(size for _, size, _ in entries)
    for _, size, path in entries:
        if total <= bound:
            break
        discard(path)
        total -= size
    long_ago = time.time() - WORK_AGE
    for path in base.glob("tmp-*"):
        if _modified(path) < long_ago:
            discard(path)


def _fault(path: Path) -> str | None:
    """Why code must not be kept in this folder, None if it may; makes the folder."""
    if not path.is_absolute():
        return "is not a full path, as HOME is not set"
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        return f"cannot be made ({error.strerror or error})"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid != os.geteuid():
        return f"belongs to another user ({found.st_uid}) and is not trusted"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o}) and is not trusted"
    return None if os.access(path, os.R_OK | os.W_OK | os.X_OK) else "cannot be written"


def _remove_own(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child runs this too
        shutil.rmtree(path, ignore_errors=True)


def _digest(data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()} {len(data)}\n".encode()


def _whole(entry: Path, file: str) -> bytes | None:
    """What is in an entry's file, None if it is not whole; marks the entry as used."""
    try:
        data = (entry / file).read_bytes()
        whole = (entry / SUM).read_bytes() == _digest(data)
        os.utime(entry)
    except OSError:
        return None
    return data if whole else None


def _seal(work: Path, file: str) -> None:
    try:
        data = (work / file).read_bytes()
    except FileNotFoundError as error:
        raise ToolchainError(f"{work.parent}: the compiler reported success but wrote no object: check it") from error
    (work / SUM).write_bytes(_digest(data))


def _publish(work: Path, entry: Path, file: str) -> None:
    """Give the finished folder its name; an entry that another process put there meanwhile stays if it is good."""
    for attempt in range(10):
        try:
            os.rename(work, entry)
            return
        except OSError:
            if attempt == 9:
                raise
            if _whole(entry, file) is not None:
                return
            discard(entry)


@contextlib.contextmanager
def _lock(base: Path, key: str) -> Iterator[None]:
    """Hold the lock of this key's group, if it can be had in time: it saves double work, nothing depends on it.

    The system drops the lock of a process that ends, however it ends.
    """
    import fcntl  # not on Windows, where this module must still be importable

    (base / "locks").mkdir(mode=0o700, exist_ok=True)
    with open(base / "locks" / key[:2], "wb") as file:
        deadline, pause = time.monotonic() + PATIENCE, 0.001
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
            except OSError:  # a file system without locks
                break
        yield


def _prune_sometimes(base: Path, key: str) -> None:
    """Look over the whole cache after one new entry in 16."""
    if key.endswith("0"):
        prune(base, BOUND)


def _entries(base: Path) -> Iterator[tuple[float, int, Path]]:
    """(last use, bytes, path) of each entry, kept failures included."""
    for path in base.iterdir():
        if path.name.startswith("tmp-") or path.name in ("locks", "compilers", "zig") or not path.is_dir():
            continue
        with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
            yield path.stat().st_mtime, sum(file.stat().st_size for file in path.iterdir()), path


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
