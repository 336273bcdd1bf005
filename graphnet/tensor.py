"""Traced tensors: thin wrappers around graph nodes that behave as NumPy arrays do while a model is traced.

``traced`` turns a function on nodes into a public one: it finds the user's line, converts operands, and
words errors so that they start with that line.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import numpy as np

import graphnet.compiler.ops
from graphnet.compiler import build as b
from graphnet.compiler.errors import DTypeError, GraphnetError, NameError_, TraceError
from graphnet.compiler.ir import ITEMSIZE, Constant, Node, Type, Where, make

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSIDE = tuple(
    os.path.join(folder, "")
    for folder in (
        _HERE,
        os.path.dirname(os.path.abspath(graphnet.compiler.__file__ or "")),
    )
)
_MODELS = os.path.join(_HERE, "models", "")


def user_where(scope: str = "") -> Where:
    """The innermost stack frame outside graphnet: the user's line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame = frame.f_back
    return Where(_display(frame.f_code.co_filename), frame.f_lineno, scope)


@functools.cache
def _is_inside(file: str) -> bool:
    return (file.startswith(_INSIDE) and not file.startswith(_MODELS)) or file.startswith("<frozen")


@functools.cache
def _display(file: str) -> str:
    """Files below the working folder by their relative path, others as they are."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative


def constant(array: Any) -> Node:
    """A literal node from a host array; dtypes graphnet lacks are converted or refused."""
    host = np.asarray(array)
    dtype = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32"}.get(
        host.dtype.name, host.dtype.name
    )
    if dtype not in ITEMSIZE:
        raise DTypeError(f"{b.current_where()}: an array of dtype {host.dtype} cannot be used in a model")
    host = np.ascontiguousarray(host, dtype=dtype).reshape(host.shape)
    value = Constant(host.tobytes(), host.shape, dtype)
    attrs = {"value": value, "captured": True}
    return make("constant", (), attrs, Type(host.shape, dtype), b.current_where())


class AttributeError_(NameError_, AttributeError):  # noqa: N801 - both, so that hasattr() works
    """A tensor has no such attribute."""


# what users of other libraries look for on a tensor
ELSEWHERE = {
    "view": "x.reshape(shape)",
    "permute": "x.transpose(axes)",
    "t": "x.T",
    "detach": "gn.stop_gradient(x)",
    "unsqueeze": "gn.expand_dims(x, axis)",
    "softmax": "gn.softmax(x)",
    "item": "the compiled net's result: a value is not known while the model is traced",
    "numpy": "the compiled net's result: a value is not known while the model is traced",
    "backward": "net.backward(y) on the compiled net",
}


class Tensor:
    """A value in a traced graph: shape and dtype are known, its numbers only when the compiled net runs.

    Arithmetic, comparisons, indexing, ``len``, iteration and NumPy functions work as on arrays. Asking for
    the numbers (``if t:``, ``float(t)``, ``np.asarray(t)``) raises TraceError naming the line.
    """

    __slots__ = ("node",)
    __array_priority__ = 1000.0

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> str:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return self.node.ndim

    @property
    def size(self) -> int:
        return self.node.out.size

    def __repr__(self) -> str:
        return f"Tensor({self.node.out}, {self.node.op} at {self.node.where})"

    def __len__(self) -> int:
        if not self.shape:
            raise TraceError(f"{user_where()}: a scalar tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def _refuse(self, what: str, remedy: str) -> NoReturn:
        raise TraceError(
            f"{user_where()}: {what} of a traced tensor {self.node.out}: its value is not known while the model "
            f"is traced; {remedy}"
        )

    def __bool__(self) -> bool:
        self._refuse(
            "a Python truth value (`if`, `while`, `and`, `or`, `not`)",
            "use gn.where(condition, a, b), gn.cond(condition, then, otherwise) or gn.while_loop",
        )

    def __float__(self) -> float:
        self._refuse("float()", "keep it a tensor, or return it and read it from the compiled net's result")

    def __int__(self) -> int:
        self._refuse("int()", "keep it a tensor, or pass the number as a Python argument of the model")

    __index__ = __int__

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TraceError(
            f"{user_where()}: a tensor cannot be changed in place: use gn.where(condition, new, old) or "
            f"gn.scatter_add(x, indices, updates), which return a new one"
        )

    def __format__(self, form: str) -> str:
        if form:
            self._refuse("a format", "print it without one, or return it and format the compiled net's result")
        return repr(self)

    def __getattr__(self, name: str) -> NoReturn:
        remedy = f"use {ELSEWHERE[name]}" if name in ELSEWHERE else "its operations are the gn functions"
        raise AttributeError_(f"{user_where()}: a traced tensor has no attribute {name!r}: {remedy}")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self._refuse("a NumPy array", "use gn functions or NumPy ufuncs, which are traced")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from graphnet import numpy_protocol

        return numpy_protocol.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        from graphnet import numpy_protocol

        return numpy_protocol.function(func, args, kwargs)


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def to_node(value: Any) -> Any:
    """Tensors and arrays to nodes, also inside lists and tuples; NumPy scalars count as Python numbers."""
    if isinstance(value, Tensor):
        return value.node
    if isinstance(value, np.ndarray):
        return constant(value)
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(to_node(v) for v in value)
    return value


def as_node(value: Any, dtype: str = "float32") -> Node:
    """A node for a tensor, array, number or nested list of numbers."""
    found = to_node(value)
    if isinstance(found, Node):
        return found
    if isinstance(found, (bool, int, float)):
        kind = dtype if isinstance(found, float) else "bool" if isinstance(found, bool) else "int32"
        return b.scalar(found, kind)
    host = np.asarray(value)
    return constant(host.astype(dtype) if host.dtype.kind == "f" else host)


def to_tensor(value: Any) -> Any:
    """Nodes to tensors, also inside lists and tuples."""
    if isinstance(value, Node):
        return Tensor(value)
    if type(value) in (list, tuple):
        return type(value)(to_tensor(v) for v in value)
    return value


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (type(value) in (list, tuple) and any(map(_holds_tensor, value)))


F = TypeVar("F", bound=Callable[..., Any])


def traced(function: F) -> F:
    """Make a function on nodes public: operands may be tensors, arrays or numbers; results are tensors."""

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        if b.inside():
            return function(*args, **kwargs)
        from graphnet.trace import current_scope, is_tracing

        where = user_where(current_scope())
        if not is_tracing() and not any(_holds_tensor(a) for a in (*args, *kwargs.values())):
            raise TraceError(
                f"{where}: gn.{function.__name__} works only while a model is traced: compile the function around it "
                f"with gn.jit or gn.compile, or use NumPy on arrays"
            )
        with b.at(where, enter=True):
            try:
                nodes = [to_node(a) for a in args]
                named = {key: to_node(value) for key, value in kwargs.items()}
                return to_tensor(function(*nodes, **named))
            except GraphnetError as error:
                message = str(error)
                if message.startswith(f"{where}: "):
                    raise type(error)(message) from None
                raise type(error)(f"{where}: {function.__name__}: {message}") from None

    return public  # type: ignore[return-value]
