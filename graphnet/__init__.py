"""graphnet: a define-then-compile graph compiler for neural networks.

@gn.model                                   a function that builds a network
net = gn.compile(model, gn.spec(...), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=0.1))
net.step(x, y); net(x); print(net)          train, use, read

gn.grad(f), gn.value_and_grad(f), gn.jit(f) the same compiler for plain functions of arrays
"""

try:
    import graphnet.compiler  # noqa: F401 - found only where graphnet is installed
except ModuleNotFoundError as error:
    if error.name != "graphnet.compiler":
        raise
    raise ImportError(
        "graphnet is imported from a checkout that is not installed: run `pip install -e .` in it, or start "
        "Python in another folder"
    ) from error

from graphnet import data, functions, init, layers, losses, optim
from graphnet.api import compile
from graphnet.compiler.errors import (
    BackendError,
    CompileError,
    DataError,
    DTypeError,
    FileError,
    GraphnetError,
    NumericsError,
    PlanError,
    ShapeError,
    TraceError,
)
from graphnet.compiler.errors import NameError_ as NameError
from graphnet.control import cond, scan, while_loop
from graphnet.files import load
from graphnet.functional import grad, jit, value_and_grad
from graphnet.functions import *  # noqa: F403 - every public operation
from graphnet.net import Net
from graphnet.operators import install as _install
from graphnet.tensor import Tensor
from graphnet.trace import Spec, State, model, param, random_normal, random_uniform, spec, state, training

_install()
__version__ = "0.1.0"

__all__ = [
    *functions.__all__,
    "BackendError",
    "CompileError",
    "DTypeError",
    "DataError",
    "FileError",
    "GraphnetError",
    "NameError",
    "Net",
    "NumericsError",
    "PlanError",
    "ShapeError",
    "Spec",
    "State",
    "Tensor",
    "TraceError",
    "compile",
    "cond",
    "data",
    "functions",
    "grad",
    "init",
    "jit",
    "layers",
    "load",
    "losses",
    "model",
    "optim",
    "param",
    "random_normal",
    "random_uniform",
    "scan",
    "spec",
    "state",
    "training",
    "value_and_grad",
    "while_loop",
]
