"""Finding a compiler, knowing it again, and compiling with it."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys

import pytest

from graphnet.kernels.c import cache, toolchain
from graphnet.kernels.c.prelude import FLAGS, HEADER
from graphnet.kernels.c.toolchain import ToolchainError

REAL = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
SEARCH = os.environ.get("PATH", os.defpath)
ANSWER = "int answer(void) { return 42; }\n"

pytestmark = pytest.mark.skipif(REAL is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of this test's own, no $CC, and an empty folder `bin` as PATH."""
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_temporary", [])
    monkeypatch.setattr(toolchain, "_found", {})
    for name in ("CC", *toolchain.READ_BY_COMPILERS):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def install(tmp_path):
    """``install("gcc", script)`` puts a program on PATH; without a script one that starts the real compiler."""

    def put(name, script='REAL "$@"', folder=tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        path = folder / name
        real = f"PATH={shlex.quote(SEARCH)} exec {shlex.quote(REAL)}"
        path.write_text(f"#!/bin/sh\n{script.replace('REAL', real)}\n")
        path.chmod(0o755)
        return str(path)

    return put


@pytest.fixture
def compiler(install):
    install("cc")
    return toolchain.find()


@pytest.fixture
def no_processes(monkeypatch):
    """From the call on, starting a process fails and nothing is remembered in this one."""

    def forbid():
        def refuse(*_, **__):
            raise AssertionError("a process was started")

        monkeypatch.setattr(toolchain.subprocess, "run", refuse)
        monkeypatch.setattr(toolchain, "_found", {})

    return forbid


def test_cc_comes_before_gcc_and_clang(install):
    paths = {name: install(name) for name in ("clang", "gcc", "cc")}
    for name in ("cc", "gcc", "clang"):
        toolchain._found.clear()
        assert toolchain.find().command == (paths[name],)
        os.unlink(paths[name])
    assert toolchain.find().command == (paths["clang"],), "this process has found it"
    toolchain._found.clear()
    assert toolchain.find() is None


def test_a_compiler_that_is_installed_later_is_found(install):
    """Nothing found is not remembered; a notebook may install one."""
    assert toolchain.find() is None
    assert toolchain.describe()[0] == f"no C compiler: {toolchain.REMEDY}"
    install("clang")
    assert toolchain.find() is not None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'cc: fatal error: no headers' >&2; exit 1", "does not compile: cc: fatal error: no headers"),
        ("exit 3", "does not compile: exit code 3"),
        ("kill -9 $$", "does not compile: ended by signal 9"),
        ("echo '#define __TINYC__ 1'", "is neither gcc nor clang, nor like one"),
        ('for a; do [ "$a" = -shared ] && exit 0; done; REAL "$@"', "cannot be loaded"),
    ],
)
def test_a_compiler_that_does_not_work_is_passed_over(install, script, reason):
    """The next is taken, and describe() says why the first was not."""
    broken, good = install("cc", script), install("gcc")
    assert toolchain.find().command == (good,)
    (line,) = [line for line in toolchain.describe() if line.startswith("not used: ")]
    assert line.startswith(f"not used: {broken}: ")
    assert reason in line


def test_a_program_that_cannot_be_started_is_passed_over(install, tmp_path):
    install("gcc")
    (tmp_path / "bin" / "cc").write_bytes(b"\x7fELF")
    (tmp_path / "bin" / "cc").chmod(0o755)
    assert toolchain.find().command[0].endswith("gcc")
    assert any("cannot be started" in line for line in toolchain.describe())


def test_cc_from_the_environment_comes_first_and_may_hold_arguments(install, monkeypatch, tmp_path):
    """It is split as a shell would, but no shell sees it."""
    install("cc")
    mine = install("my cc; touch oops", 'for a; do [ "$a" = -DMINE=1 ] || set -- "$@" "$a"; shift; done; REAL "$@"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", "'my cc; touch oops' -DMINE=1 '-DTEXT=\"a $(b)\"'")
    found = toolchain.find()
    assert found.command == (mine, "-DMINE=1", '-DTEXT="a $(b)"')
    library = toolchain.load("const char *text(void) { return TEXT; }", found)
    library.text.restype = toolchain.ctypes.c_char_p
    assert library.text() == b"a $(b)"
    assert not (tmp_path / "oops").exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no-such-compiler", "no such program"),
        ("broken -O2", "does not compile: exit code 1"),
        ("'gcc", "No closing quotation"),
    ],
)
def test_cc_that_cannot_be_used_is_an_error(install, monkeypatch, value, reason):
    """Another compiler is not what was asked for."""
    install("gcc")
    install("broken", "exit 1")
    monkeypatch.setenv("CC", value)
    with pytest.raises(ToolchainError) as caught:
        toolchain.find()
    assert str(caught.value) == f"CC={value} cannot be used: {reason}: set CC to a C compiler, or unset it"
    assert toolchain.describe() == [str(caught.value)]


def test_an_empty_cc_counts_as_unset(install, monkeypatch):
    install("gcc")
    monkeypatch.setenv("CC", "  ")
    assert toolchain.find().command[0].endswith("gcc")


def test_the_ziglang_wheel_comes_last(install, monkeypatch, tmp_path):
    """`zig cc`, found through the wheel's folder; its own cache lies beside ours unless it has a place."""
    wheel = tmp_path / "site" / "ziglang"
    wheel.parent.mkdir()
    zig = install("zig", f'echo "$ZIG_GLOBAL_CACHE_DIR" > {tmp_path}/zig.log; [ "$1" = cc ] && shift; REAL "$@"', wheel)
    (wheel / "__init__.py").touch()
    monkeypatch.undo()
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(toolchain, "_found", {})
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.syspath_prepend(str(wheel.parent))
    monkeypatch.delitem(sys.modules, "ziglang", raising=False)
    found = toolchain.find()
    assert found.command == (zig, "cc")
    assert toolchain.load(ANSWER, found).answer() == 42
    assert (tmp_path / "zig.log").read_text().strip() == str(tmp_path / "cache" / "c" / "zig")


def test_macos_stand_ins_for_a_compiler_are_not_started(monkeypatch):
    """Without the developer tools /usr/bin/cc opens a window that offers to install them."""
    monkeypatch.setattr(toolchain.sys, "platform", "darwin")
    monkeypatch.setattr(toolchain.os.path, "exists", lambda path: False)
    assert toolchain._is_bait("/usr/bin/cc")
    assert not toolchain._is_bait("/opt/homebrew/bin/gcc")
    monkeypatch.setattr(toolchain.os.path, "exists", lambda path: path == "/Library/Developer/CommandLineTools")
    assert not toolchain._is_bait("/usr/bin/cc")


def test_what_is_known_of_the_compiler(compiler):
    """Version, kind, flags of generated code and of this machine."""
    assert "\n" not in compiler.version
    assert compiler.kind in ("gcc", "clang")
    assert compiler.flags[: len(FLAGS)] == FLAGS
    assert compiler.flags[-2:] == ("-fPIC", "-shared")
    assert ("-mprefer-vector-width=512" in compiler.flags) == ("AVX512F" in compiler.features)
    assert compiler.isa() in ("avx512", "avx2", "neon", "generic")
    line, *_, code, kept = toolchain.describe()
    assert line == f"{compiler.command[0]}: {compiler.version}"
    assert code.startswith(f"{compiler.isa()} code, -std=")
    assert kept.startswith(f"compiled code: {cache.folder()}, 0 entries")


@pytest.mark.parametrize(
    ("features", "isa"),
    [
        (("AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "FMA"), "avx512"),
        (("AVX512F", "AVX2", "FMA"), "avx2"),
        (("AVX2", "FMA", "SSE2"), "avx2"),
        (("AVX2", "SSE2"), "generic"),
        (("ARM_NEON",), "neon"),
        ((), "generic"),
    ],
)
def test_the_instruction_set_follows_from_the_features(compiler, features, isa):
    """An instruction set counts only with all that generated code takes for granted."""
    assert dataclasses.replace(compiler, features=features).isa() == isa


def test_the_flags_permit_what_the_features_say(compiler):
    """The text sees the same instruction set as the one that chose it."""
    words = {"avx512": "__AVX512VL__", "avx2": "__AVX2__", "neon": "__ARM_NEON"}
    source = (
        f"int has(void) {{\n#ifdef {words.get(compiler.isa(), '__linux__')}\nreturn 1;\n#else\nreturn 0;\n#endif\n}}"
    )
    assert toolchain.load(source, compiler).has() == 1


def test_nothing_is_started_once_all_is_known(compiler, no_processes):
    """A warm start finds the compiler and loads the object without any process."""
    toolchain.load(ANSWER, compiler)
    no_processes()
    again = toolchain.find()
    assert again == compiler
    assert toolchain.load(ANSWER, again).answer() == 42
    with pytest.raises(AssertionError, match="a process was started"):
        toolchain.load(ANSWER + ANSWER.replace("answer", "other"), again)


def change_file(path, monkeypatch):
    with open(path, "a") as file:
        file.write("# newer\n")


def change_environment(path, monkeypatch):
    monkeypatch.setenv("CPATH", "/tmp")


def change_machine(path, monkeypatch):
    monkeypatch.setattr(toolchain, "machine", lambda: "another processor")


@pytest.mark.parametrize("change", [change_file, change_environment, change_machine])
def test_another_compiler_has_another_identity(compiler, no_processes, monkeypatch, change):
    """A newer compiler, one that reads other headers or one on another processor: objects are not exchanged."""
    known = toolchain._key(ANSWER, compiler, ())
    change(compiler.command[0], monkeypatch)
    toolchain._found.clear()
    other = toolchain.find()
    assert other.identity != compiler.identity
    assert toolchain._key(ANSWER, other, ()) != known


def test_the_wrapped_compiler_counts_too(install, monkeypatch):
    """`CC="ccache gcc"`: both files decide."""
    install("wrapper", 'shift; REAL "$@"')
    inner = install("gcc")
    monkeypatch.setenv("CC", "wrapper gcc")
    before = toolchain.find()
    change_file(inner, monkeypatch)
    toolchain._found.clear()
    assert toolchain.find().identity != before.identity


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"command": 3}', "\x00"])
def test_a_damaged_record_is_made_again(compiler, damage):
    (record,) = (cache.folder() / "compilers").iterdir()
    record.write_text(damage)
    toolchain._found.clear()
    assert toolchain.find() == compiler
    assert toolchain._recall(record) == compiler


def test_the_machine_is_told_without_what_changes_from_moment_to_moment(monkeypatch):
    """Two looks agree, also where only /proc/cpuinfo is there."""
    toolchain.machine.cache_clear()
    first = toolchain.machine()
    toolchain.machine.cache_clear()
    assert toolchain.machine() == first
    if sys.platform == "linux":
        text = "\n".join(toolchain._cpuinfo()).lower()
        assert text
        assert "mhz" not in text
        assert "bogomips" not in text


def test_every_part_of_the_key_counts(compiler):
    keys = {
        toolchain._key(source, found, extra)
        for source in (ANSWER, ANSWER + " ")
        for found in (compiler, dataclasses.replace(compiler, flags=(*compiler.flags, "-g")))
        for extra in ((), ("-pthread",), ("-DA", "-DB"), ("-DA-DB",))
    }
    assert len(keys) == 16


def test_the_text_is_kept_beside_the_object(compiler):
    path = toolchain.compile_shared(ANSWER, compiler)
    assert toolchain.compile_shared(ANSWER, compiler) == path
    assert path.with_name("code.c").read_text() == ANSWER
    assert not path.with_name("log").exists()


def test_warnings_do_not_fail_and_are_kept(compiler):
    path = toolchain.compile_shared("#warning take care\n" + ANSWER, compiler)
    assert "take care" in path.with_name("log").read_text()


def test_extra_options_come_last(compiler):
    library = toolchain.load("int level(void) { return LEVEL; }", compiler, ("-DLEVEL=1", "-ULEVEL", "-DLEVEL=2"))
    assert library.level() == 2


def test_a_text_that_does_not_compile_is_an_error_with_what_it_takes_to_look_into_it(compiler):
    """The first line says what and where; the compiler's first lines follow; text and log are kept."""
    bad = "int f(void)\n{\n    return oops;\n}\n" + "int g(void) { return oops; }\n" * 30
    for _ in range(2):
        with pytest.raises(ToolchainError) as caught:
            toolchain.compile_shared(bad, compiler)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{compiler.command[0]} does not compile: ")
    assert "oops" in first
    assert 1 <= len(rest) <= 8
    kept = first.rpartition("kept in ")[2]
    assert (cache.folder() / kept / "code.c").read_text() == bad
    assert "oops" in (cache.folder() / kept / "log").read_text()


def test_text_that_is_not_unicode_compiles(compiler):
    """A comment may name a file whose name no encoding explains."""
    assert toolchain.load(f"/* \udcff \u2192 é */ {ANSWER}", compiler).answer() == 42


def test_odd_surroundings_do_not_matter(compiler, monkeypatch):
    """No locale, temporary files nowhere, a folder of that name in the way."""
    monkeypatch.setenv("LC_ALL", "xx_YY.no-such")
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    monkeypatch.chdir("/")
    assert toolchain.load(ANSWER, compiler).answer() == 42


def test_it_works_without_a_home(install, monkeypatch, capsys):
    """Compiled code then lives in a temporary folder; one line says so."""
    install("cc")
    monkeypatch.delenv("GRAPHNET_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert toolchain.load(ANSWER, toolchain.find()).answer() == 42
    assert len(capsys.readouterr().err.splitlines()) == 1
    cache._remove_own(cache.folder(), os.getpid())


def test_the_header_compiles_without_warnings(compiler):
    """As tests of generated code demand it."""
    toolchain.compile_shared(HEADER + toolchain.PROBE, compiler, ("-Wall", "-Wextra", "-Werror"))
