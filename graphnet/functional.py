"""Knet8's style: ``jit``, ``grad`` and ``value_and_grad`` of plain functions of arrays and nests of arrays.

Called on arrays they trace once for each structure and shape, compile, and return NumPy arrays. Called on
tensors inside another trace they build graph there, so gradients of gradients work to any order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnet import tree
from graphnet.backend import choose
from graphnet.compiler import build as b
from graphnet.compiler.autodiff import gradients, zeros_unless
from graphnet.compiler.compile import checking, compile_graph
from graphnet.compiler.errors import DTypeError, ShapeError, TraceError
from graphnet.compiler.ir import Graph, Node, Type, leaf
from graphnet.compiler.passes import Context
from graphnet.tensor import Tensor, as_node, is_tensor, user_where
from graphnet.trace import Trace, tracing

_tags = itertools.count()
MAX_TRACES = 64


def _as_array(value: Any) -> np.ndarray:
    """An argument as an array: Python floats and lists are float64 as in NumPy."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{user_where()}: an argument of type {type(value).__name__} is not an array of numbers")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, int, float, bool)) or is_tensor(value)


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a plain function: traced and compiled once for each structure, shape and dtype of arguments.

    Arguments are arrays, numbers, or lists, tuples and dicts of them; anything else (strings, None, functions)
    is passed as it is. Results come back as NumPy arrays in the nest the function returned.
    """
    if not callable(fn):
        raise TraceError(f"{user_where()}: jit: the function must be callable, got {type(fn).__name__}")
    compiled: dict[Any, Callable[[list[np.ndarray]], Any]] = {}

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        if tracing():
            return fn(*args, **kwargs)
        dynamic = [_is_array(v) for v in leaves]
        arrays = [_as_array(v) for v, d in zip(leaves, dynamic, strict=True) if d]
        static = tuple(v for v, d in zip(leaves, dynamic, strict=True) if not d)
        key = (structure, static, tuple((a.shape, a.dtype) for a in arrays))
        try:
            run = compiled.get(key)
        except TypeError:
            kinds = ", ".join(type(v).__name__ for v in static)
            raise TraceError(f"{user_where()}: arguments that are not arrays must be hashable, got {kinds}") from None
        if run is None:
            if len(compiled) >= MAX_TRACES:
                compiled.pop(next(iter(compiled)))
            run = compiled[key] = _compile(fn, structure, leaves, dynamic, arrays)
        return run(arrays)

    return call


def _compile(
    fn: Callable[..., Any],
    structure: tree.Structure,
    leaves: Sequence[Any],
    dynamic: Sequence[bool],
    arrays: Sequence[np.ndarray],
) -> Callable[[list[np.ndarray]], Any]:
    where = user_where()
    trace = Trace(training=False, allow_params=False)
    with trace.activate():
        inputs = [leaf(f"arg{i}", "input", Type(a.shape, _known(a)), where) for i, a in enumerate(arrays)]
        tensors = iter([Tensor(n) for n in inputs])
        filled = [next(tensors) if d else v for v, d in zip(leaves, dynamic, strict=True)]
        args, kwargs = tree.unflatten(structure, filled)
        result = fn(*args, **kwargs)
        found, shape = tree.flatten(result)
        with b.at(where):
            outputs = [as_node(v, "float64") for v in found]
    named = tuple((f"output/{i}", n) for i, n in enumerate(outputs))
    graph = Graph(tuple(inputs), named, (), getattr(fn, "__name__", "function"))
    trace.check_closed(graph)
    backend = choose("cpu", "auto")
    plan = compile_graph(graph, Context(target=backend.target))
    homes = {"rng/seed": np.array(0, np.uint64), "rng/step": np.array(0, np.uint64)}
    bound = backend.bind(plan, homes, checking())
    slots = [bound.inputs.get(f"arg{i}") for i in range(len(inputs))]
    results = [bound.outputs[f"output/{i}"] for i in range(len(outputs))]

    def run(values: list[np.ndarray]) -> Any:
        for slot, value in zip(slots, values, strict=True):
            if slot is not None and slot.size:
                np.copyto(slot, value)
        bound.run()
        homes["rng/step"] += np.uint64(1)
        return tree.unflatten(shape, [r[()] if r.shape == () else r.copy() for r in results])

    return run


def _known(array: np.ndarray) -> str:
    from graphnet.trace import dtype_name

    return dtype_name(array.dtype)


def grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The gradient of a scalar function with respect to argument ``argnums`` (an index or several).

    Takes the same arguments as ``fn``; returns the nest of that argument, each array replaced by its gradient.
    """
    if not callable(fn):
        raise TraceError(f"{user_where()}: grad: the function must be callable, got {type(fn).__name__}")
    both = value_and_grad(fn, argnums)

    @functools.wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def value_and_grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Like :func:`grad`, returning ``(value, gradient)``."""
    if not callable(fn):
        raise TraceError(f"{user_where()}: grad: the function must be callable, got {type(fn).__name__}")

    def inner(*args: Any, **kwargs: Any) -> Any:
        return _differentiate(fn, argnums, args, kwargs)

    compiled = jit(inner)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs) if tracing() else compiled(*args, **kwargs)

    return call


def _differentiate(fn: Callable[..., Any], argnums: int | Sequence[int], args: tuple[Any, ...], kwargs: Any) -> Any:
    where = user_where()
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    if not all(isinstance(i, int) and -len(args) <= i < len(args) for i in chosen):
        raise TraceError(f"{where}: grad: argnums {argnums} of a call with {len(args)} positional arguments")
    chosen = [i % len(args) for i in chosen]
    if len(set(chosen)) < len(chosen):
        raise TraceError(f"{where}: grad: argnums {argnums} names an argument twice")
    fresh = list(args)
    sources: list[Node] = []
    shapes = []
    for i in chosen:
        leaves, structure = tree.flatten(args[i])
        tagged = []
        for value in leaves:
            with b.at(where):
                node = as_node(value, "float64")
                node = node if node.out.is_float else b.cast(node, "float64")
                # a node of its own, so that the same value reaching fn another way is not differentiated
                tagged.append(b.apply("identity", node, tag=next(_tags)))
        sources += tagged
        shapes.append((structure, len(tagged)))
        fresh[i] = tree.unflatten(structure, [Tensor(n) for n in tagged])
    value = fn(*fresh, **kwargs)
    if not isinstance(value, (Tensor, np.ndarray, np.generic, int, float)):
        raise ShapeError(f"{where}: grad: the function must return a scalar, it returned {type(value).__name__}")
    with b.at(where):
        result = as_node(value, "float64")
        if isinstance(value, Tensor) and not result.out.is_float:
            raise DTypeError(f"{where}: grad: the function must return a float, it returned {result.dtype}")
        if result.shape != () and result.out.size != 1:
            raise ShapeError(f"{where}: grad: the function must return a scalar, it returned shape {result.shape}")
        found = gradients([(result, b.full(result.shape, 1.0, result.dtype))], sources)
        filled = iter([Tensor(zeros_unless(g, s)) for g, s in zip(found, sources, strict=True)])
    nests = [tree.unflatten(structure, [next(filled) for _ in range(n)]) for structure, n in shapes]
    return Tensor(result), nests[0] if isinstance(argnums, int) else tuple(nests)
