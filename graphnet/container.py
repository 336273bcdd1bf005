"""The bytes of a saved net: a safetensors container with one checksum over all of it.

    header   {"__metadata__": {"graphnet": "{\\"checksum\\": SHA-256, ...document...}"}, arrays...}
    data     the arrays

The document is the one metadata entry, because the container's writer keeps several in no fixed order. The
checksum is that of the whole file, its own digits taken as zeros, so no bit can change unseen.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy

from graphnet.compiler.errors import FileError

ENTRY = "graphnet"
DIGITS = 64
RECOVER = "load another copy, or save the net again"
_MARK = b'"' + ENTRY.encode() + b'":"{\\"checksum\\":\\"'
_LENGTH = 8
_TAGS = ("float", "dict")


def pack(document: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file's bytes. ``document`` is a JSON object without checksum; the same parts give the same bytes."""
    text = f'{{"checksum":"{"0" * DIGITS}",{document[1:]}'
    data = bytearray(safetensors.numpy.save(dict(arrays), {ENTRY: text}))
    start = _digits_at(data)
    data[start : start + DIGITS] = _digest(data, start)
    return bytes(data)


def unpack(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Document and arrays of what ``pack`` made.

    Raises FileError, without a path, for truncated, altered and other files, and for those that were made to
    have the right checksum also KeyError, TypeError, ValueError, RecursionError and SafetensorError.
    """
    start = _digits_at(data)
    if data[start : start + DIGITS] != _digest(data, start):
        raise FileError(f"it is truncated or altered, its checksum does not match: {RECOVER}")
    header = parse(data[_LENGTH : _LENGTH + _header_size(data)].decode())
    if set(header["__metadata__"]) != {ENTRY}:
        raise FileError(f"its metadata is not that of a saved net: {RECOVER}")
    document = parse(header["__metadata__"][ENTRY])
    del document["checksum"]
    return document, safetensors.numpy.load(data)


def _header_size(data: bytes | bytearray) -> int:
    return int.from_bytes(data[:_LENGTH], "little")


def _digits_at(data: bytes | bytearray) -> int:
    """Where the checksum's digits are. Quotes inside JSON strings are escaped, so the mark occurs once."""
    size = _header_size(data)
    if size > len(data) - _LENGTH:
        raise FileError(f"it is truncated, or no saved net: {RECOVER}")
    start = data.find(_MARK, _LENGTH, _LENGTH + size)
    if start < 0 or start + len(_MARK) + DIGITS > _LENGTH + size:
        raise FileError(f"it is no file that net.save wrote, or its header is damaged: {RECOVER}")
    return start + len(_MARK)


def _digest(data: bytes | bytearray, start: int) -> bytes:
    """SHA-256 of the file with zeros for the digits at ``start``."""
    with memoryview(data) as view:
        digest = hashlib.sha256(view[:start])
        digest.update(b"0" * DIGITS)
        digest.update(view[start + DIGITS :])
    return digest.hexdigest().encode()


def parse(text: str) -> Any:
    """JSON as the standard has it: no repeated keys, NaN or infinity; raises ValueError."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key repeats in its header")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def plain(value: object) -> Any:
    """User metadata in strict JSON, which has no NaN and infinities; raises TypeError where it would change."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        inner = {key: plain(v) for key, v in value.items()}
        return {"dict": inner} if len(inner) == 1 and set(inner) <= set(_TAGS) else inner
    raise TypeError(f"{type(value).__name__} is not what JSON holds")


def restored(value: Any) -> Any:
    """The metadata that ``plain`` wrote."""
    if isinstance(value, list):
        return [restored(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"float"}:
        return float(value["float"])
    inner = value["dict"] if set(value) == {"dict"} else value
    return {key: restored(v) for key, v in inner.items()}
