"""Saved nets: ``net.save(path)``, ``gn.load(path)``, ``net.restore(path)``.

A file holds arrays and a JSON document (``graphnet.serialize``) in a checked safetensors container
(``graphnet.container``). Nothing in it is code, and whatever is wrong with it is a single FileError line.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import safetensors

from graphnet.atomic import write_atomically
from graphnet.backend import choose
from graphnet.compiler.errors import BackendError, FileError, GraphnetError
from graphnet.compiler.ir import Type
from graphnet.container import RECOVER, pack, parse, plain, unpack
from graphnet.program import SavedProgram
from graphnet.serialize import Contents, read_contents, slot_types, type_of, write_contents

if TYPE_CHECKING:
    from graphnet.backend import Backend
    from graphnet.net import Net

# what reading and compiling the parts of a bad file may raise; never a bare Exception, which hides interrupts
_WRONG = (
    *(GraphnetError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RecursionError, RuntimeError, TypeError, ValueError, safetensors.SafetensorError),
)


def _fail(path: object, what: object) -> NoReturn:
    raise FileError(_line(path, what)) from None


def _line(path: object, what: object) -> str:
    """One line, also where a hostile file put line ends into its names."""
    message = " ".join(str(what).split())
    return f"{path}: {message if len(message) <= 400 else message[:397] + '...'}"


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, GraphnetError) else f"{type(error).__name__} {error}".strip()


# -- reading ------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> Contents:
    """The checked contents of a saved net; raises FileError."""
    data = _bytes(path)
    try:
        return read_contents(*unpack(data))
    except FileError as error:
        _fail(path, error)
    except _WRONG as error:
        _fail(path, f"it is no valid saved net: {_why(error)}: {RECOVER}")


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        # a pipe or a device may have no end
        if not stat.S_ISREG(Path(path).stat().st_mode):
            _fail(path, "it is no regular file: give the path of a saved net")
        data = Path(path).read_bytes()
    except OSError as error:
        _fail(path, f"cannot be read: {error.strerror or error}: give the path of a saved net")
    except (TypeError, ValueError) as error:
        _fail(repr(path), f"is no path: {error}")
    except MemoryError:
        _fail(path, "cannot be read: it is larger than the memory")
    if not data:
        _fail(path, f"it is empty: {RECOVER}")
    return data


def load(path: str | os.PathLike[str], device: str = "cpu", backend: str = "auto", precision: str = "float32") -> Net:
    """The net saved at ``path``, which runs and trains on without the function it was made from.

    It holds parameters, optimiser with slots, states, random counters and ``metadata`` as they were, and runs
    for the input shapes the saved net had run for. A resumed run equals an unbroken one bit for bit on the
    same backend and machine. ``device``, ``backend`` and ``precision`` are those of ``gn.compile``. Raises FileError,
    one line, for a file that is missing, truncated, altered or hostile, and BackendError for a device or backend that
    is not available here.
    """
    chosen = choose(device, backend, precision=precision)
    contents = read(path)
    try:
        return _build(contents, chosen)
    except BackendError:
        raise
    except MemoryError as error:
        _fail(path, f"its net does not fit into memory: {error}: use a machine with more")
    except _WRONG as error:
        # the cause stays attached: should graphnet itself be at fault, it says where
        message = _line(path, f"its graph cannot be compiled: {_why(error)}: {RECOVER}")
        raise FileError(message) from error


def _build(c: Contents, backend: Backend) -> Net:
    from graphnet.net import Net

    program = SavedProgram(c.name, c.loss_name, c.traced, c.targets)
    net = Net(program, c.inputs, c.target, c.optimizer, backend, c.seed, c.max_plans)
    for traced in c.traced:
        net._trace(*traced.signature)
    # orders decide what the next save writes, and which of several states of a name net.states shows
    net._traced = {t.signature: net._traced[t.signature] for t in c.traced}
    net._params = {name: net._params[name] for name in c.params}
    net._states = {key: net._states[key] for key in c.states}
    net._state_init = {key: net._state_init[key] for key in c.states}
    types = slot_types(c.optimizer, c.traced)
    missing = set(net._slots) & set(types) - set(c.slots)
    if missing:
        raise FileError(f"the slot {min(missing)!r} is missing")
    hyper = {name: array for name, array in net._slots.items() if name not in types}
    net._loaded = None
    net._slots = {n: net._slots[n] if n in net._slots else backend.allocate(types[n]) for n in c.slots} | hyper
    _copy_in(net, c, set(c.slots), set(c.states))
    for key, (_, initial) in c.states.items():
        net._state_init[key][...] = initial
    net.metadata = dict(c.metadata)
    return net


def _copy_in(net: Net, c: Contents, slots: set[str], states: set[tuple[str, Type]]) -> None:
    write = net.backend.write
    for name, array in c.params.items():
        write(net._params[name], array)
    for name in slots:
        write(net._slots[name], c.slots[name])
    for key in states:
        write(net._states[key], c.states[key][0])
    net.seed = c.seed
    write(net._homes["rng/seed"], np.array(c.seed, np.uint64))
    write(net._homes["rng/step"], np.array(c.step, np.uint64))


# -- nets ---------------------------------------------------------------------------------------------


class Saving:
    """The part of ``Net`` that writes and restores files."""

    def save(self: Net, path: str | os.PathLike[str], /, **metadata: Any) -> Path:
        """Write the net to one file and return its path; ``gn.load`` reads it.

        ``metadata`` (a vocabulary, class names, what JSON can hold) is added to ``net.metadata`` in the file.
        The file is complete or the old one remains: it is written aside, synced and renamed. The same net
        gives the same bytes. Raises FileError, one line, where the net or path cannot be saved.
        """
        try:
            target = Path(path)
        except TypeError as error:
            _fail(repr(path), f"is no path: {error}")
        merged = {**self.metadata, **metadata}
        for name, value in merged.items():
            _check_metadata(target, name, value)
        self._settle()
        try:
            data = _packed(_contents(self, merged))
        except _WRONG as error:
            raise FileError(_line(target, f"this net cannot be saved: {_why(error)}")) from error
        write_atomically(target, data)
        return target

    def restore(self: Net, path: str | os.PathLike[str], slots: bool = True) -> tuple[str, ...]:
        """Put a saved net's values into this one, compiled from the same function for the same or other shapes.

        Parameters, states and random counters are restored, and the optimiser's slots unless ``slots`` is
        False or this net has no optimiser; hyperparameters and ``metadata`` stay as they are here. Names and
        types must match, but states whose shape belongs to another batch size keep their values here: their
        names are returned. Raises FileError, one line with the first differences, and then changes nothing.
        """
        c = read(path)
        self._settle()
        _complete(self)
        found, kept, remedy = _differences("param", _types(c.params), _types(self._params)), set(), ""
        if slots and self.optimizer is not None:
            known = slot_types(self.optimizer, self._traced.values())
            kept = {name for name in self._slots if name in known}
            others = _differences("slot", _types(c.slots), _types({n: self._slots[n] for n in kept}))
            remedy = " (slots=False leaves the optimiser as it is)" if others and not found else ""
            found += others
        theirs, mine = {name for name, _ in c.states}, {name for name, _ in self._states}
        found += [f"state {n!r} is only in the file" for n in sorted(theirs - mine)]
        found += [f"state {n!r} is not in the file" for n in sorted(mine - theirs)]
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            _fail(path, f"it does not fit this net: {'; '.join(found[:3])}{more}{remedy}")
        states = {key for key in self._states if key in c.states}
        _copy_in(self, c, kept, states)
        return tuple(sorted(mine - {name for name, _ in states}))


def _types(arrays: Mapping[str, Any]) -> dict[str, Type]:
    return {name: type_of(array) for name, array in arrays.items()}


def _differences(kind: str, theirs: Mapping[str, Type], mine: Mapping[str, Type]) -> list[str]:
    found = []
    for name in sorted({*theirs, *mine}):
        if name not in mine:
            found.append(f"{kind} {name!r} is only in the file")
        elif name not in theirs:
            found.append(f"{kind} {name!r} is not in the file")
        elif theirs[name] != mine[name]:
            found.append(f"{kind} {name!r} is {theirs[name]} in the file, {mine[name]} here")
    return found


def _check_metadata(path: Path, name: str, value: object) -> None:
    try:
        plain(value)
    except (TypeError, RecursionError):
        _fail(
            path,
            f"metadata {name!r} is not what JSON holds (text, numbers, booleans, None, lists, dicts with text "
            f"keys): convert it, an array with .tolist() or a tuple with list()",
        )


def _packed(c: Contents) -> bytes:
    """The file's bytes, after a look that they read back as the same net."""
    document, arrays = write_contents(c)
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    read_back = read_contents(parse(text), arrays)
    if type(read_back.optimizer) is not type(c.optimizer):
        raise FileError(f"its optimizer {type(c.optimizer).__name__!r} is a class of your own, which no file can name")
    again, _ = write_contents(read_back)
    if again != document:
        raise FileError("its graphs do not read back as they are")
    return pack(text, arrays)


def _contents(net: Net, metadata: Mapping[str, Any]) -> Contents:
    _complete(net)
    values = net.backend.read
    traced = tuple(net._traced.values())
    params = {name for t in traced for name in t.params}
    states = {(name, d.node.out) for t in traced for name, d in t.states.items()}
    known = slot_types(net.optimizer, traced)
    outputs = {t.graph.outputs[0][1].out for t in traced if t.graph.outputs}
    targets = {output: net.program.target_type(output) for output in sorted(outputs, key=str)}
    return Contents(
        name=net.program.name,
        loss_name=net.program.loss_name,
        backend=net.backend.name,
        inputs=net.input_types,
        target=net.target_type,
        targets={output: target for output, target in targets.items() if target is not None},
        max_plans=net.max_plans,
        optimizer=net.optimizer,
        metadata=metadata,
        traced=traced,
        params={name: values(array) for name, array in net._params.items() if name in params},
        slots={name: values(array) for name, array in net._slots.items() if name in known},
        states={key: (values(a), net._state_init[key]) for key, a in net._states.items() if key in states},
        seed=net.seed,
        step=int(values(net._homes["rng/step"])),
    )


def _complete(net: Net) -> None:
    """Trace what a net of the shapes seen so far may still be asked for: inference, loss and training."""
    for inputs in dict.fromkeys(inputs for inputs, _, _ in net._traced):
        for target, training in itertools.product(_targets(net, inputs), (False, True)):
            # a model may refuse one of them (batch_norm a batch of 1); its plan is refused in words later
            with contextlib.suppress(GraphnetError):
                net._trace(inputs, target, training)


def _targets(net: Net, inputs: tuple[Type, ...]) -> list[Type | None]:
    """The targets that inputs may have: those seen with them, and the one that the loss expects."""
    inference = net._trace(inputs, None, training=False)
    if not net.trainable or net.target_type is None:
        return [None] if net.trainable else []
    usual = net.target_type
    if inputs != net.input_types:
        usual = net.program.target_type(inference.graph.outputs[0][1].out)
    seen = [target for known, target, _ in net._traced if known == inputs]
    return [target for target in dict.fromkeys([usual, *seen]) if target is not None]
