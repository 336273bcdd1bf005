"""The text of C files: as recorded, the same every time, quiet under warnings, safe from what users call things."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

import graphnet as gn
from graphnet.compiler.c import c_target, emit
from graphnet.compiler.text.programs import block_comment
from graphnet.kernels.c import toolchain
from graphnet.kernels.c.tile import targeting


@gn.model
def images(x):
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 3, kernel=3)), 2)
    return gn.layers.dense(gn.flatten(x), 4)


@gn.model
def letters(ids):
    x = gn.layers.embedding(ids, 7, 16)
    return gn.layers.dense(gn.layers.lstm(x, 16, stateful=True), 7)


MODELS = {
    "images": (images, gn.spec((8, 1, 8, 8)), gn.optim.SGD(lr=0.1)),
    "letters": (letters, gn.spec((32, 5), "int32"), gn.optim.Adam(lr=0.1, clip_norm=1.0)),
}


def emitted(name, threads=2, isa="avx2", least_work=0.0, timed=False):
    """The training step's file for a machine that need not be this one."""
    model, spec, optimizer = MODELS[name]
    net = gn.compile(model, spec, loss=gn.losses.softmax_cross_entropy, optimizer=optimizer, backend="numpy")
    backend = SimpleNamespace(target=c_target(threads, isa))
    _, plan, _ = net._compiled("step", net.input_types, net.target_type, backend)
    with targeting(isa):
        return emit(plan, threads, timed, least_work)


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_as_recorded(golden, name):
    golden(f"c/{name}.c", emitted(name).text)


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_the_same_every_time(name):
    assert emitted(name).text == emitted(name).text


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon", "generic"])
@pytest.mark.parametrize("threads", [1, 3])
def test_no_compiler_warns_whatever_the_text_is_written_for(tmp_path, isa, threads):
    """The text for any instruction set is plain C; this machine's compiler takes it all."""
    compiler = toolchain.find()
    if compiler is None:
        pytest.skip("needs a C compiler")
    for name in MODELS:
        path = tmp_path / f"{name}.c"
        path.write_text(emitted(name, threads, isa, timed=True).text)
        command = [*compiler.command, *compiler.flags, "-O1", "-Wall", "-Wextra", "-Werror", "-c", str(path)]
        done = subprocess.run([*command, "-o", str(path) + ".o"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


EVIL = ["w*/ int main(void) { return 1; } /*", "??/", "ends in \\", "/* opens", "#error here", "*/*/ x"]


def test_names_cannot_end_a_comment_or_become_code(tmp_path):
    """What users call things stands in comments only, and stays there: the file holds one declaration."""
    compiler = toolchain.find()
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = tmp_path / "evil.c"
    path.write_text("\n".join([*(block_comment([name, "and more"]) for name in EVIL), "int only;\n"]))
    flags = ["-std=gnu11", "-trigraphs", "-Wall", "-Wextra", "-Wcomment", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*compiler.command, *flags, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain = subprocess.run([*compiler.command, "-E", "-P", str(path)], capture_output=True, text=True, check=True)
    assert plain.stdout.split() == ["int", "only;"]


def test_nothing_of_the_run_is_in_the_text():
    """No pointers, folders or times: the cache finds the same text again."""
    text = emitted("images").text
    assert "/tmp" not in text
    assert "test_c_text.py:" in text
