"""Initial values of parameters: ``gn.param("w", shape, init=gn.init.he_normal())``.

An initialiser is a record of a name and numbers, so it can be saved and compared. Its random numbers come
from the counter-based generator keyed by seed and stream; with the stream taken from the parameter's name, a
value depends on seed, name and shape only, not on what else a model declares or in which order.

Fans: a dense ``w`` of shape (in, out) has fan_in = in and fan_out = out; a convolution's ``w`` of shape
(out, in, k...) has fan_in = in * k and fan_out = out * k, k being the product of the kernel sizes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnet.compiler.errors import DTypeError, GraphnetError, NameError_, ShapeError
from graphnet.compiler.ir import Type, Where
from graphnet.kernels.numpy.random import philox_normal, philox_uniform
from graphnet.tensor import user_where

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Initializer:
    """An initial distribution by name and arguments; equal ones give equal values."""

    name: str
    args: tuple[tuple[str, float], ...] = ()

    def __call__(self, shape: Sequence[int], dtype: str = "float32", seed: int = 0, stream: int = 0) -> np.ndarray:
        """A new array of ``shape`` and ``dtype``; raises ShapeError for a shape the distribution lacks.

        Values are worked out in float64 and rounded, so nets of both float types start at the same point.
        """
        values = _MAKERS[self.name](tuple(shape), (seed, stream), **dict(self.args))
        return np.asarray(values, dtype=dtype)

    def config(self) -> dict[str, Any]:
        """Name and arguments as JSON can hold them."""
        return {"name": self.name, "args": dict(self.args)}

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value:g}' for key, value in self.args)})"


def from_config(config: Mapping[str, Any]) -> Initializer:
    """The initialiser whose ``config()`` this is; raises NameError for an unknown name."""
    if config["name"] not in _MAKERS:
        raise NameError_(f"initialiser {config['name']!r} is not one of {', '.join(_MAKERS)}")
    return Initializer(config["name"], tuple((key, float(value)) for key, value in config["args"].items()))


def _make(name: str, **args: float) -> Initializer:
    for key, value in args.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise DTypeError(f"{user_where()}: init.{name}: {key} must be a number, got {value!r}")
    return Initializer(name, tuple((key, float(value)) for key, value in args.items()))


def glorot_uniform() -> Initializer:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010)."""
    return _make("glorot_uniform")


def glorot_normal() -> Initializer:
    """Normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010)."""
    return _make("glorot_normal")


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal


def he_uniform() -> Initializer:
    """Uniform in +-sqrt(6 / fan_in), for layers before a relu (He et al., ICCV 2015)."""
    return _make("he_uniform")


def he() -> Initializer:
    """He et al.'s initialiser in its normal form: :func:`he_normal`."""
    return he_normal()


def he_normal() -> Initializer:
    """Normal of variance 2 / fan_in, for layers before a relu (He et al., ICCV 2015)."""
    return _make("he_normal")


def normal(mean: float = 0.0, std: float = 0.01) -> Initializer:
    """Normal with this mean and standard deviation."""
    return _make("normal", mean=mean, std=std)


def uniform(low: float = -0.1, high: float = 0.1) -> Initializer:
    """Uniform in [low, high)."""
    return _make("uniform", low=low, high=high)


def constant(value: float) -> Initializer:
    """The same number everywhere."""
    return _make("constant", value=value)


def zeros() -> Initializer:
    """0 everywhere."""
    return constant(0.0)


def ones() -> Initializer:
    """1 everywhere."""
    return constant(1.0)


def orthogonal(gain: float = 1.0) -> Initializer:
    """``gain`` times a matrix with orthonormal rows or columns, whichever are fewer (Saxe et al., ICLR 2014).

    Shapes of more than two axes are filled as the matrix (first axis, all others).
    """
    return _make("orthogonal", gain=gain)


def identity(gain: float = 1.0) -> Initializer:
    """``gain`` on the diagonal of a matrix; in a convolution's ``w`` at the centre of filter i, channel i."""
    return _make("identity", gain=gain)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight; a vector's fans are its size."""
    if len(shape) < 2:
        return (math.prod(shape), math.prod(shape))
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


Key = tuple[int, int]


def _between(shape: Shape, key: Key, low: float, high: float) -> np.ndarray:
    values: np.ndarray = philox_uniform(*key, shape, "float32").astype("float64")
    # in place, as fresh memory costs more than the arithmetic
    values *= high - low
    values += low
    return values


def _gaussian(shape: Shape, key: Key, mean: float, std: float) -> np.ndarray:
    values: np.ndarray = philox_normal(*key, shape, "float64")
    values *= std
    values += mean
    return values


def _symmetric(shape: Shape, key: Key, variance: float) -> np.ndarray:
    limit = math.sqrt(3 * variance)
    return _between(shape, key, -limit, limit)


def _glorot(shape: Shape) -> float:
    return 2 / max(1, sum(fans(shape)))


def _he(shape: Shape) -> float:
    return 2 / max(1, fans(shape)[0])


def _matrix_like(name: str, shape: Shape) -> None:
    if len(shape) < 2:
        raise ShapeError(f"init.{name} fills two axes or more, the shape is {shape}")


def _orthogonal(shape: Shape, key: Key, gain: float) -> np.ndarray:
    _matrix_like("orthogonal", shape)
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = _gaussian((max(rows, columns), min(rows, columns)), key, 0.0, 1.0)
    q, r = np.linalg.qr(drawn)
    # without the signs of r, q would not be spread evenly over all orthogonal matrices (Mezzadri 2007)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(shape)


def _identity(shape: Shape, key: Key, gain: float) -> np.ndarray:
    _matrix_like("identity", shape)
    values = np.zeros(shape)
    centre = tuple(k // 2 for k in shape[2:])
    for i in range(min(shape[:2])):
        values[(i, i, *centre)] = gain
    return values


_MAKERS: dict[str, Callable[..., np.ndarray]] = {
    "glorot_uniform": lambda shape, key: _symmetric(shape, key, _glorot(shape)),
    "glorot_normal": lambda shape, key: _gaussian(shape, key, 0.0, math.sqrt(_glorot(shape))),
    "he_uniform": lambda shape, key: _symmetric(shape, key, _he(shape)),
    "he_normal": lambda shape, key: _gaussian(shape, key, 0.0, math.sqrt(_he(shape))),
    "normal": _gaussian,
    "uniform": _between,
    "constant": lambda shape, key, value: np.full(shape, value),
    "orthogonal": _orthogonal,
    "identity": _identity,
}


def stream_of(name: str) -> int:
    """The random stream of a parameter, from its name: above 2**32, where no random op of a model draws."""
    return (1 << 32) + zlib.crc32(name.encode())


def initial_value(init: Any, type_: Type, seed: int, stream: int, where: Where | str, what: str = "init") -> np.ndarray:
    """The first value of a parameter or state, a new array of ``type_``.

    ``init`` is an Initializer, a number, an array (or nested list) of exactly that shape, or a function of
    the shape that returns one. Raises ShapeError or DTypeError, one line that starts with ``where``.
    """
    try:
        if isinstance(init, str):
            raise DTypeError(f"{init!r} is a name: give the initialiser itself, gn.init.glorot_uniform() say")
        if isinstance(init, Initializer):
            return init(type_.shape, type_.dtype, seed, stream)
        if isinstance(init, (bool, int, float, np.generic)):
            return _fitting(np.full(type_.shape, init), type_)
        if callable(init):
            init = init(type_.shape)
        return _fitting(_array(init), type_)
    except GraphnetError as error:
        raise type(error)(f"{where}: {what}: {error}") from None


def _array(init: Any) -> np.ndarray:
    try:
        return np.asarray(init)
    except ValueError as error:
        raise ShapeError(f"the initial value is not an array ({error})") from None


def _fitting(values: np.ndarray, type_: Type) -> np.ndarray:
    """``values`` as a new array of the declared type; refused where more than rounding would change them."""
    if values.dtype.kind not in "biuf":
        raise DTypeError(
            f"an initial value is an Initializer, a number, an array or a function of the shape, not {values.dtype}"
        )
    if values.shape != type_.shape:
        raise ShapeError(f"the declared shape is {type_.shape}, the initial value's {values.shape}")
    if not type_.is_float:
        with np.errstate(invalid="ignore"):
            cast = values.astype(type_.dtype)
        if not np.array_equal(cast, values):
            raise DTypeError(f"the initial value does not fit {type_.dtype}")
        return cast
    return np.array(values, dtype=type_.dtype)
