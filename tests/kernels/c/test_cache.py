"""The cache of compiled objects: what it trusts, what it repairs, and many processes at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import time

import pytest

from graphnet.kernels.c import cache, toolchain

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """The cache folder of this test."""
    monkeypatch.setenv("GRAPHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_temporary", [])
    return tmp_path / "cache" / "c"


@pytest.fixture
def compiler():
    found = toolchain.find()
    if found is None:
        pytest.skip("needs a C compiler")
    return found


class Builder:
    """Writes an object and counts how often it was asked to."""

    def __init__(self, data=b"object"):
        self.data = data
        self.calls = 0

    def __call__(self, work):
        self.calls += 1
        (work / cache.OBJECT).write_bytes(self.data)


def litter(base):
    return sorted(path.name for path in base.iterdir() if path.name.startswith("tmp-"))


def test_the_folder_is_named_by_graphnet_cache_then_by_the_platform(monkeypatch, tmp_path):
    """The same rules as for downloaded data, with `c` instead of `data`."""
    assert cache.chosen_folder() == tmp_path / "cache" / "c"
    monkeypatch.delenv("GRAPHNET_CACHE")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.chosen_folder() == tmp_path / "xdg" / "graphnet" / "c"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.chosen_folder() == tmp_path / ".cache" / "graphnet" / "c"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert cache.chosen_folder() == tmp_path / "Library" / "Caches" / "graphnet" / "c"


def test_the_folder_is_private(base):
    """It is made with mode 0700 whatever the umask."""
    before = os.umask(0)
    try:
        assert cache.folder() == base
    finally:
        os.umask(before)
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


def assert_replaced(base, capsys, reason):
    private = cache.folder()
    assert cache.folder() == private != base
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, "one line, once"
    assert lines[0].startswith(f"graphnet: {base}: {reason}")
    assert "GRAPHNET_CACHE" in lines[0]
    cache._remove_own(private, os.getpid() + 1)
    assert private.is_dir(), "a child process must not remove it"
    cache._remove_own(private, os.getpid())
    assert not private.exists()


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_can_write_is_not_used(base, mode, capsys):
    """Who can write there could have this process run anything."""
    base.mkdir(parents=True)
    base.chmod(mode)
    assert_replaced(base, capsys, f"can be written by others (mode {mode:04o}) and is not trusted: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(base, capsys):
    base.mkdir(parents=True, mode=0o700)
    os.chown(base, 12345, -1)
    assert_replaced(base, capsys, "belongs to another user (12345) and is not trusted: ")


def test_a_folder_that_cannot_be_made_is_replaced(base, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    assert_replaced(base, capsys, "cannot be made (")


def test_a_file_in_the_place_of_the_folder_is_left_alone(base, capsys):
    base.parent.mkdir()
    base.write_text("a file")
    assert_replaced(base, capsys, "is not a folder: ")


def test_without_any_folder_there_is_an_error(base, monkeypatch):
    """No cache and no temporary folder either: one line that names the remedy."""
    base.parent.mkdir()
    base.write_text("a file")

    def full(**_):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", full)
    with pytest.raises(cache.ToolchainError, match=r"no temporary folder .* set GRAPHNET_CACHE"):
        cache.folder()


def test_an_entry_is_built_once(base):
    build = Builder()
    path = cache.obtain(KEY, build)
    assert (path, path.read_bytes()) == (base / KEY / cache.OBJECT, b"object")
    assert cache.obtain(KEY, build) == path
    assert build.calls == 1
    assert not litter(base)


def truncate(entry):
    os.truncate(entry / cache.OBJECT, 3)


def change(entry):
    (entry / cache.OBJECT).write_bytes(b"obJect")


def empty(entry):
    (entry / cache.SUM).write_bytes(b"")


def lose_object(entry):
    (entry / cache.OBJECT).unlink()


def lose_sum(entry):
    (entry / cache.SUM).unlink()


def become_a_file(entry):
    cache.discard(entry)
    entry.write_text("a file")


@pytest.mark.parametrize("damage", [truncate, change, empty, lose_object, lose_sum, become_a_file])
def test_a_damaged_entry_is_built_again(base, damage):
    """Each way in which an entry can be wrong costs one build, and leaves nothing behind."""
    build = Builder()
    path = cache.obtain(KEY, build)
    damage(base / KEY)
    assert cache.obtain(KEY, build).read_bytes() == b"object"
    assert build.calls == 2
    assert cache.obtain(KEY, build) == path
    assert build.calls == 2
    assert not litter(base)


@pytest.mark.parametrize("damage", [truncate, change, empty, lose_object, lose_sum, become_a_file])
def test_only_a_whole_entry_is_read(base, damage):
    """What is read is what was checked, whatever happens to the entry afterwards."""
    assert cache.read(KEY, cache.OBJECT) is None
    cache.obtain(KEY, Builder())
    os.utime(base / KEY, (1, 1))
    assert cache.read(KEY, cache.OBJECT) == b"object"
    assert (base / KEY).stat().st_mtime > 1, "it counts as used"
    damage(base / KEY)
    assert cache.read(KEY, cache.OBJECT) is None


def test_an_entry_may_hold_another_file(base):
    """Kept, sealed and repaired like an object."""
    for _ in range(2):
        path = cache.obtain(KEY, lambda work: (work / "plan").write_bytes(b"steps"), "plan")
        assert (path, cache.read(KEY, "plan")) == (base / KEY / "plan", b"steps")
        path.write_bytes(b"step")
        assert cache.read(KEY, "plan") is None


def test_a_build_that_fails_leaves_nothing(base):
    def fail(work):
        (work / "half").write_text("half")
        raise cache.ToolchainError("does not compile")

    with pytest.raises(cache.ToolchainError, match="does not compile"):
        cache.obtain(KEY, fail)
    with pytest.raises(cache.ToolchainError, match="wrote no object"):
        cache.obtain(KEY, lambda work: None)
    assert sorted(path.name for path in base.iterdir()) == ["locks"]


def in_processes(count, function):
    """What `function` returned in `count` forked processes that started it together."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(count), context.SimpleQueue()

    def run():
        start.wait()
        try:
            results.put(function())
        except BaseException as error:
            results.put(repr(error))
            raise

    processes = [context.Process(target=run) for _ in range(count)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


@pytest.mark.parametrize("patience", [60.0, 0.0])
def test_sixteen_processes_at_once_all_get_the_whole_object(base, patience, monkeypatch):
    """One builds while the others wait; where no lock can be had all may build, and all still succeed."""
    monkeypatch.setattr(cache, "PATIENCE", patience)
    data = os.urandom(1 << 20)

    def build(work):
        for part in range(0, len(data), 1 << 17):
            with open(work / cache.OBJECT, "ab") as file:
                file.write(data[part : part + (1 << 17)])
            time.sleep(0.005)
        (base / f"built-{os.getpid()}").mkdir()

    found = in_processes(16, lambda: cache.obtain(KEY, build).read_bytes() == data)
    assert found == [True] * 16
    builds = len(list(base.glob("built-*")))
    assert builds == 1 if patience else builds >= 1
    assert not litter(base)


def test_sixteen_processes_repair_one_damaged_entry(base):
    cache.obtain(KEY, Builder())
    truncate(base / KEY)
    assert in_processes(16, lambda: cache.obtain(KEY, Builder()).read_bytes()) == [b"object"] * 16
    assert not litter(base)


def test_the_lock_of_a_killed_process_does_not_block(base):
    cache.folder()
    context = multiprocessing.get_context("fork")
    locked = context.Event()

    def hold():
        with cache._lock(base, KEY):
            locked.set()
            time.sleep(60)

    process = context.Process(target=hold)
    process.start()
    assert locked.wait(10)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    begin = time.monotonic()
    cache.obtain(KEY, Builder())
    assert time.monotonic() - begin < 5


def test_a_lock_that_is_held_too_long_is_ignored(base, monkeypatch):
    """A stopped process cannot stop others."""
    monkeypatch.setattr(cache, "PATIENCE", 0.05)
    cache.folder()
    with cache._lock(base, KEY):
        assert cache.obtain(KEY, Builder()).read_bytes() == b"object"


def test_an_object_that_does_not_load_is_built_once_more(base, compiler):
    """Its digest may be right and the object wrong: another machine's, say."""
    good = toolchain.compile_shared("int answer(void) { return 42; }", compiler).read_bytes()
    cache.obtain(KEY, Builder(b"\x7fELF of another machine"))
    build = Builder(good)
    assert cache.load(KEY, build).answer() == 42
    assert cache.load(KEY, build).answer() == 42
    assert build.calls == 1


def test_an_object_that_never_loads_is_an_error():
    build = Builder(b"nonsense")
    with pytest.raises(cache.ToolchainError, match=r"was compiled but cannot be loaded: .*code\.so"):
        cache.load(KEY, build)
    assert build.calls == 3


def test_the_entries_used_longest_ago_go_first(base):
    """Use counts, not age; what does not fit the bound goes, and so does the work of killed processes."""
    keys = [f"{i:032x}" for i in range(1, 5)]
    for i, key in enumerate(keys):
        cache.obtain(key, Builder(bytes(1000)))
        os.utime(base / key, (i, i))
    cache.obtain(keys[0], Builder())
    for name, age in (("tmp-dead", 2 * cache.WORK_AGE), ("tmp-alive", 0)):
        (base / name).mkdir()
        os.utime(base / name, (time.time() - age,) * 2)
    assert cache.usage(base)[0] == 4
    cache.prune(base, cache.usage(base)[1] // 2)
    assert {path.name for path in base.iterdir()} == {"locks", keys[0], keys[3], "tmp-alive"}


def test_new_entries_keep_the_cache_within_its_bound(base, monkeypatch):
    """Without anybody asking, and not much later than needed."""
    monkeypatch.setattr(cache, "BOUND", 5000)
    for i in range(64):
        cache.obtain(f"{i:032x}", Builder(bytes(1000)))
    assert cache.usage(base)[0] <= 4 + 16


def test_a_loaded_object_outlives_its_entry(base, compiler):
    """Another process may prune what this one uses."""
    source = "int answer(void) { return 7; }"
    library = toolchain.load(source, compiler)
    cache.prune(base, 0)
    assert not list(base.glob("*/code.so"))
    assert library.answer() == 7
    assert toolchain.load(source, compiler).answer() == 7


def test_pruning_beside_users_never_fails_them(base):
    """Sixteen processes take and remove the same entries; each sees whole objects only."""

    def use():
        for turn in range(20):
            key = f"{turn % 4:032x}"
            path = cache.obtain(key, Builder(key.encode()))
            try:
                if path.read_bytes() != key.encode():
                    return "torn"
            except FileNotFoundError:  # pruned between the two calls, as load() expects
                continue
            cache.prune(base, 0)
        return "good"

    assert in_processes(16, use) == ["good"] * 16


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file"
    cache.write(target, b"old")
    with pytest.raises(TypeError):
        cache.write(target, "not bytes")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
