"""Finding a C compiler that works here, knowing it again without starting it, and compiling with it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphnet.kernels.c import cache
from graphnet.kernels.c.cache import ToolchainError as ToolchainError
from graphnet.kernels.c.prelude import FLAGS, GCC_FLAGS, HEADER

REMEDY = "install gcc or clang, or pip install ziglang"
"""What to do where no compiler was found."""

FORMAT = "1"
"""Part of every key: raised when what is kept, or how, changes."""

SHARED = ("-fPIC", "-shared")
READ_BY_COMPILERS = (
    "CPATH",
    "C_INCLUDE_PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "SDKROOT",
    "DEVELOPER_DIR",
    "MACOSX_DEPLOYMENT_TARGET",
)
READ_HERE = ("CC", "PATH", "GRAPHNET_CACHE", "XDG_CACHE_HOME", "HOME")
FEATURES = ("AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "FMA", "SSE2", "ARM_NEON", "ARM_FEATURE_SVE")

# Compiled and loaded to see that a compiler works, never called.
PROBE = f"""{HEADER}
typedef float wide __attribute__((vector_size(64)));
GN_CONTRACT float gn_probe(const float *x)
{{
    GN_CONTRACTED;
    wide v;
    memcpy(&v, x, sizeof v);
    v = v * v + v;
    return expf(v[0]);
}}
"""


_found: dict[tuple[str | None, ...], tuple[Compiler | None, tuple[str, ...]]] = {}


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler that made a shared object this process could load.

    ``command`` is an argument list, ``version`` one line, ``kind`` gcc or clang, ``flags`` the options for
    shared objects on this machine. ``features`` are those of FEATURES that ``flags`` permit the compiler to use.
    ``identity`` differs between compilers and machines whose objects should not be exchanged.
    """

    command: tuple[str, ...]
    version: str
    kind: str
    flags: tuple[str, ...]
    features: tuple[str, ...]
    identity: str

    def isa(self) -> str:
        """The instruction set to write for: avx512, avx2, neon or generic."""
        if {"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "FMA"} <= {*self.features}:
            return "avx512"
        if {"AVX2", "FMA"} <= {*self.features}:
            return "avx2"
        return "neon" if "ARM_NEON" in self.features else "generic"


def find() -> Compiler | None:
    """The first usable of ``$CC``, cc, gcc, clang and the ziglang wheel's, or None.

    A compiler that was seen before is known by its file, so nothing is started. Raises ToolchainError if ``$CC``
    is set and not usable, or if there is no folder to keep what is compiled.
    """
    return _search()[0]


def compile_shared(source: str, compiler: Compiler, extra: Sequence[str] = ()) -> Path:
    """The shared object compiled from C text, from the cache if it is there; ``extra`` options come last.

    Raises ToolchainError with the compiler's first lines; the text and the whole log are kept beside the cache.
    """
    key = _key(source, compiler, extra)
    return cache.obtain(key, functools.partial(_compile, key, (source,), compiler, tuple(extra)))


def load(source: str, compiler: Compiler, extra: Sequence[str] = ()) -> ctypes.CDLL:
    """As compile_shared, but the loaded object, which is never unloaded.

    The same text loaded twice in a process is one object: its static variables are shared.
    """
    key = _key(source, compiler, extra)
    return cache.load(key, functools.partial(_compile, key, (source,), compiler, tuple(extra)))


def load_later(identity: str, write: Callable[[], str], compiler: Compiler, extra: Sequence[str] = ()) -> ctypes.CDLL:
    """As load, for text that is only written if it is not in the cache: ``identity`` differs where the text does."""
    key = _key(identity, compiler, extra)
    return cache.load(key, lambda work: _compile(key, write(), compiler, tuple(extra), work))


def describe() -> list[str]:
    """Lines for people: the compiler that was found or what to install, what it compiles for, and the cache."""
    try:
        found, rejected = _search()
        base = cache.folder()
    except ToolchainError as error:
        return [str(error).splitlines()[0]]
    lines = [f"not used: {line}" for line in rejected]
    if found is None:
        return [f"no C compiler: {REMEDY}", *lines]
    entries, size = cache.usage(base)
    return [
        f"{shlex.join(found.command)}: {found.version}",
        *lines,
        f"{found.isa()} code, {' '.join(found.flags)}",
        f"compiled code: {base}, {entries} entries, {size / 2**20:.1f} MiB",
    ]


def _search() -> tuple[Compiler | None, tuple[str, ...]]:
    """The compiler, and why others before it were not taken; looks only once if it finds one."""
    surroundings = tuple(os.environ.get(name) for name in (*READ_HERE, *READ_BY_COMPILERS))
    if surroundings not in _found:
        compiler, rejected = _look() if sys.platform != "win32" else (None, ("compilers on Windows are not supported",))
        if compiler is None:  # one may be installed meanwhile
            return None, rejected
        _found[surroundings] = compiler, rejected
    return _found[surroundings]


def _look() -> tuple[Compiler | None, tuple[str, ...]]:
    cache.folder()  # an error of its own, not one of every compiler
    chosen = os.environ.get("CC", "").strip()
    if chosen:
        try:
            command = _resolve(shlex.split(chosen))
            if command is None:
                raise ToolchainError("no such program")
            return _recognise(command), ()
        except (ToolchainError, ValueError) as error:
            raise ToolchainError(f"CC={chosen} cannot be used: {error}: set CC to a C compiler, or unset it") from error
    rejected: dict[str, str] = {}
    for command in _candidates():
        name = os.path.realpath(command[0])
        if name in rejected:
            continue
        try:
            return _recognise(command), tuple(rejected.values())
        except ToolchainError as error:
            rejected[name] = f"{shlex.join(command)}: {error}"
    return None, tuple(rejected.values())


def _candidates() -> Iterator[tuple[str, ...]]:
    for name in ("cc", "gcc", "clang"):
        command = _resolve([name])
        if command and not _is_bait(command[0]):
            yield command
    wheel = importlib.util.find_spec("ziglang")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        program = os.path.join(place, "zig")  # what `python -m ziglang` would start
        if os.access(program, os.X_OK):
            yield (program, "cc")


def _resolve(words: Sequence[str]) -> tuple[str, ...] | None:
    """The command with its program's full path, None if there is no such program."""
    program = shutil.which(words[0]) if words else None
    return (os.path.abspath(program), *words[1:]) if program else None


def _is_bait(program: str) -> bool:
    """Whether it is macOS's stand-in for a compiler, which only asks people to install one, in a window."""
    installed = ("/var/db/xcode_select_link", "/Library/Developer/CommandLineTools", "/Applications/Xcode.app")
    return sys.platform == "darwin" and program.startswith("/usr/bin/") and not any(map(os.path.exists, installed))


def _recognise(command: tuple[str, ...]) -> Compiler:
    """What is known of a compiler: from the cache if its file, the machine and the environment are the same."""
    base = cache.folder()
    try:
        identity = _identity(command)
        record = base / "compilers" / f"{identity}.json"
        known = _recall(record)
        if known is None:
            known = _examine(command, identity, base)
            record.parent.mkdir(mode=0o700, exist_ok=True)
            cache.write(record, json.dumps(asdict(known)).encode())
    except OSError as error:
        raise ToolchainError(f"cannot be tried: {error}") from error
    return known


def _recall(record: Path) -> Compiler | None:
    """The compiler in this file, None if there is no such file or it is damaged."""
    try:
        known: dict[str, Any] = json.loads(record.read_bytes())
        lists = {name: tuple(known[name]) for name in ("command", "flags", "features")}
        return Compiler(**{**known, **lists})
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _identity(command: tuple[str, ...]) -> str:
    """A digest of all that decides what the compiler makes of a text: its file, the environment, the machine."""
    facts = [
        FORMAT,
        *FLAGS,
        *GCC_FLAGS,
        PROBE,
        *command,
        *(str(os.environ.get(name)) for name in READ_BY_COMPILERS),
        machine(),
    ]
    for word in command:  # $CC may be a wrapper and a compiler: each is looked at
        program = shutil.which(word)
        if program and not word.startswith("-"):
            path = os.path.realpath(program)
            found = os.stat(path)
            facts.append(f"{path} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()[:32]


@functools.cache
def machine() -> str:
    """What -march=native depends on, as text: the processor's model and features, without starting anything."""
    facts = [sys.platform, platform.machine(), str(sys.maxsize)]
    if sys.platform == "darwin":
        facts += map(_sysctl, ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features"))
        return "\n".join(facts)
    read = 0
    for name in ("modalias", "cpu0/regs/identification/midr_el1"):
        try:
            facts.append(Path("/sys/devices/system/cpu", name).read_text(encoding="ascii", errors="replace"))
            read += 1
        except OSError:
            facts.append(f"no {name}")
    if not read:
        facts += _cpuinfo()
    return "\n".join(facts)


def _cpuinfo() -> list[str]:
    """The first processor's lines that differ between models only."""
    steady = ("vendor_id", "cpu family", "model", "flags", "features", "cpu implementer", "cpu part", "isa")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [platform.processor()]
    return [line for line in text.split("\n\n")[0].splitlines() if line.partition("\t")[0].lower().startswith(steady)]


def _sysctl(name: str) -> str:
    """A value that macOS tells as text; empty if it has none of that name."""
    size = ctypes.c_size_t(4096)
    value = ctypes.create_string_buffer(size.value)
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else value.value.decode(errors="replace")


def _examine(command: tuple[str, ...], identity: str, base: Path) -> Compiler:
    """Ask the compiler what it is, and see that it works. Raises ToolchainError if not."""
    with cache.workspace(base) as work:
        native, macros = _native(command, work)
        if native and "__AVX512F__" in macros:
            # Else gcc and clang vectorise for half of it, by the processor they take this one for.
            native = (*native, "-mprefer-vector-width=512")
        kind = "clang" if "__clang__" in macros else "gcc" if "__GNUC__" in macros else None
        if kind is None:
            raise ToolchainError("is neither gcc nor clang, nor like one")
        version = (_run([*command, "--version"], work).stdout.strip().splitlines() or ["of unknown version"])[0]
        features = tuple(name for name in FEATURES if f"__{name}__" in macros or f"__{name}" in macros)
        own = GCC_FLAGS if kind == "gcc" else ()
        compiler = Compiler(command, version, kind, (*FLAGS, *own, *native, *SHARED), features, identity)
        (work / "code.c").write_text(PROBE, encoding="utf-8")
        _check(_invoke(compiler, (), work))
        try:
            ctypes.CDLL(str(work / cache.OBJECT))
        except OSError as error:
            raise ToolchainError(f"makes objects that cannot be loaded: {error}") from error
    return compiler


def _native(command: tuple[str, ...], work: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The option for this machine's processor that the compiler takes, and the macros it then defines."""
    intel = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
    order = ("-march=native", "-mcpu=native") if intel else ("-mcpu=native", "-march=native")
    for options in ((order[0],), (order[1],), ()):
        done = _run([*command, *options, "-dM", "-E", "-x", "c", os.devnull], work)
        if done.returncode == 0:
            lines = (line.split(" ", 2) for line in done.stdout.splitlines())
            return options, {words[1]: words[-1] for words in lines if words[0] == "#define"}
    _check(done)
    raise ToolchainError("does not preprocess")


def _run(arguments: Sequence[str], work: Path) -> subprocess.CompletedProcess[str]:
    """Run a compiler: messages in English, temporary files in ``work``, zig's own cache beside ours."""
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(work)}
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(work.parent / "zig"))
    try:
        return subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            check=False,
        )
    except OSError as error:
        raise ToolchainError(f"cannot be started: {error.strerror or error}") from error


def _invoke(
    compiler: Compiler, extra: tuple[str, ...], work: Path, codes: Sequence[str] = ("code.c",)
) -> subprocess.CompletedProcess[str]:
    """Compile the files in ``work`` to one object, several of them at the same time."""
    command = [*compiler.command, *compiler.flags, *extra]
    made = str(work / cache.OBJECT)
    if len(codes) == 1:
        return _run([*command, str(work / codes[0]), "-o", made, "-lm"], work)
    objects = [str(work / f"{code}.o") for code in codes]
    jobs = [[*command, "-c", str(work / c), "-o", o] for c, o in zip(codes, objects, strict=True)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        done = list(pool.map(lambda job: _run(job, work), jobs))
    if any(d.returncode for d in done):
        return next(d for d in done if d.returncode)
    linked = _run([*command, *objects, "-o", made, "-lm"], work)
    for name in objects:
        Path(name).unlink()
    return linked


def _check(done: subprocess.CompletedProcess[str]) -> None:
    """Raise ToolchainError with the line that tells most if the run failed."""
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines
        ended = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ToolchainError(f"does not compile: {telling[0] if telling else ended}")


def _key(source: str, compiler: Compiler, extra: Sequence[str]) -> str:
    facts = (FORMAT, compiler.identity, *compiler.command, *compiler.flags, *extra, source)
    return hashlib.sha256("\0".join(facts).encode(errors="backslashreplace")).hexdigest()[:32]


def _compile(key: str, sources: Sequence[str], compiler: Compiler, extra: tuple[str, ...], work: Path) -> None:
    """Fill a folder of the cache."""
    codes = ["code.c", *(f"code{i}.c" for i in range(1, len(sources)))]
    for code, source in zip(codes, sources, strict=True):
        (work / code).write_bytes(source.encode(errors="backslashreplace"))
    done = _invoke(compiler, extra, work, codes)
    if done.stderr:
        (work / "log").write_text(done.stderr, encoding="utf-8")
    try:
        _check(done)
    except ToolchainError as error:
        kept = cache.keep_failure(work, key)
        first = done.stderr.splitlines()[:8]
        message = f"{shlex.join(compiler.command)} {error}: text and log are kept in {kept}"
        raise ToolchainError("\n".join([message, *(f"    {line}" for line in first)])) from None
