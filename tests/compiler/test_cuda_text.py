"""The text of CUDA files: as recorded, the same every time, taken by NVIDIA's compiler, cut as options say."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import pytest

import graphnet as gn
from graphnet.compiler.cuda import Gemm, Options, cuda_target, emit
from graphnet.compiler.cuda.file import _File
from graphnet.compiler.cuda.kernels import functions_in
from graphnet.compiler.schedule import Kernel


@gn.model
def images(x):
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 3, kernel=3)), 2)
    return gn.layers.dense(gn.flatten(x), 4)


@gn.model
def letters(ids):
    x = gn.layers.embedding(ids, 7, 16)
    return gn.layers.dense(gn.layers.lstm(x, 16, stateful=True), 7)


@gn.model
def wide(x):
    return gn.layers.dense(gn.relu(gn.layers.dense(x, 1024)), 1024)


@gn.model
def deep(x):
    return gn.layers.dense(x, 4, bias=False)


MODELS = {
    "deep": (deep, gn.spec((20_000, 3)), gn.optim.SGD(lr=0.1)),
    "images": (images, gn.spec((8, 1, 8, 8)), gn.optim.SGD(lr=0.1)),
    "letters": (letters, gn.spec((32, 5), "int32"), gn.optim.Adam(lr=0.1, clip_norm=1.0)),
    "wide": (wide, gn.spec((512, 1024)), gn.optim.SGD(lr=0.1)),
}


def plan_of(name, target):
    model, spec, optimizer = MODELS[name]
    net = gn.compile(model, spec, loss=gn.losses.softmax_cross_entropy, optimizer=optimizer, backend="numpy")
    _, plan, _ = net._compiled("step", net.input_types, net.target_type, SimpleNamespace(target=target))
    return plan


def functions_of(name):
    """The functions of the training step."""
    file = _File(plan_of(name, cuda_target()), cuda_target(), Options())
    return functions_in([node for part in file._parts for node in part])


def emitted(name, options=None, **target):
    """The training step's source."""
    made = cuda_target(**target)
    return emit(plan_of(name, made), made, options or Options())


@pytest.mark.parametrize("name", ["images", "letters"])
def test_the_text_is_as_recorded(golden, name):
    golden(f"cuda/{name}.cu", emitted(name).text)


@pytest.mark.parametrize("name", ["images", "letters"])
def test_the_text_is_the_same_every_time(name):
    assert emitted(name).text == emitted(name).text


@pytest.mark.parametrize("options", [Options(), Options(together=True), Options(unroll=64), Options(apart=True)])
def test_nvrtc_takes_the_text_however_it_is_cut_into_kernels(nvrtc, options):
    for name in ("images", "letters"):
        nvrtc(emitted(name, options).text)


def pointers(kernel):
    """For each 64-bit register of a kernel's PTX: where the pointers that it is made of stand in the parameters."""
    found = {}
    for name, offset in re.findall(r"ld\.param\.u64\s+(%rd\d+), \[[%\w]+(?:\+(\d+))?\];", kernel):
        found[name] = {int(offset or 0)}
    made = re.findall(r"^\s*(?:add|mov|cvta|selp|sub|mad)\S*\s+(%rd\d+), ([^;]*);", kernel, re.M)
    while True:
        before = {name: set(places) for name, places in found.items()}
        for name, operands in made:
            for operand in re.findall(r"%rd\d+", operands):
                found.setdefault(name, set()).update(found.get(operand, ()))
        if found == before:
            return found


def uncached(kernel):
    """The parameters through which a kernel's PTX loads past what other blocks write, and those it stores through."""
    places = pointers(kernel)

    def bases(pattern):
        return {p for name in re.findall(pattern, kernel) for p in places.get(name, ())}

    return bases(r"ld\.global\.nc[^;\[]*\[(%rd\d+)"), bases(r"st\.global[^;\[]*\[(%rd\d+)")


def test_nothing_that_a_kernel_writes_is_read_through_the_cache_that_does_not_see_writes(nvrtc):
    """Blocks that met, and a last block, read what others wrote: the non-coherent cache is for inputs alone."""
    loads = 0
    for name, options in itertools.product(("images", "letters"), (Options(), Options(together=True))):
        for kernel in nvrtc(emitted(name, options).text).split(".visible .entry ")[1:]:
            read, written = uncached(kernel)
            assert written
            assert not read & written, kernel.partition("(")[0]
            loads += len(read)
    assert loads, "the compiler uses that cache nowhere: nothing was looked at"


def test_every_launch_has_its_kernel_and_every_kernel_a_launch():
    for options in (Options(), Options(together=True), Options(unroll=64)):
        source = emitted("letters", options)
        kernels = set(re.findall(r'extern "C" __global__ void __launch_bounds__\(THREADS\) (\w+)\(', source.text))
        assert kernels == {launch.kernel for part in source.parts.values() for launch in part}


def test_pieces_hold_each_kernel_once_and_compile_alone(nvrtc):
    source = emitted("letters")
    assert len(source.pieces) > 2
    kernel = re.compile(r'extern "C" __global__ void __launch_bounds__\(THREADS\) (\w+)\(')
    found = [name for piece in source.pieces for name in kernel.findall(piece)]
    assert sorted(found) == sorted(kernel.findall(source.text))
    assert max(map(len, source.pieces)) < 0.6 * len(source.text)
    for piece in source.pieces:
        nvrtc(piece)


def test_a_loop_over_time_is_one_launch():
    """Of a recurrent model: its forward loop and its backward loop."""
    cooperative = [launch for launch in emitted("letters").parts[""] if launch.cooperative]
    assert len(cooperative) == 2
    assert not any(launch.cooperative for launch in emitted("letters", Options(unroll=64)).parts[""])


def test_together_is_one_launch():
    for name in ("images", "letters"):
        (launch,) = emitted(name, Options(together=True)).parts[""]
        assert launch.cooperative


def test_gradients_of_convolutions_take_along_what_is_done_with_them():
    """An optimiser's step, and the mask of the layer below."""

    @gn.model
    def two(x):
        x = gn.relu(gn.layers.conv2d(x, 3, kernel=3))
        return gn.layers.dense(gn.flatten(gn.layers.conv2d(x, 2, kernel=3)), 4)

    spec, loss = gn.spec((8, 1, 8, 8)), gn.losses.softmax_cross_entropy
    net = gn.compile(two, spec, loss=loss, optimizer=gn.optim.SGD(lr=0.1), backend="numpy")
    _, plan, _ = net._compiled("step", net.input_types, net.target_type, SimpleNamespace(target=cuda_target()))
    taken = [s.op for s in plan.steps if isinstance(s, Kernel) and s.epilogue is not None and "conv2d" in s.op]
    assert sorted(taken) == ["conv2d", "conv2d", "conv2d_input", "conv2d_weight", "conv2d_weight"]


def test_a_phase_waits_only_for_what_it_touches_itself():
    """The sums of parts of a gradient do not touch the parameter that the sum of these sums updates."""
    first, second = (f for f in functions_of("deep") if f.step == 12)
    assert not any(a.space >= 0 and a.write for a in first.piece.accesses)
    assert any(a.space >= 0 and a.write for a in second.piece.accesses)
    assert (first.writes_home, second.writes_home) == (False, True)


def test_large_products_go_to_the_library_where_there_is_one():
    products = [item for item in emitted("wide", library=True).parts[""] if isinstance(item, Gemm)]
    assert {(p.m, p.n, p.k) for p in products} == {(512, 1024, 1024), (1024, 1024, 512)}
    assert not any(isinstance(item, Gemm) for item in emitted("wide").parts[""])
    assert not any(isinstance(item, Gemm) for item in emitted("images", library=True).parts[""])


def test_below_float32_products_are_for_tensor_cores(nvrtc):
    """NVIDIA's compiler knows the instructions."""
    for precision in ("tf32", "tf32x3"):
        ptx = nvrtc(emitted("wide", precision=precision).text)
        assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in ptx
        assert "cvt.rna.tf32.f32" in ptx
    found = [emitted("letters", precision=p).text.count("on tensor cores") for p in ("float32", "tf32", "bf16")]
    assert found == [0, 2, 2]
