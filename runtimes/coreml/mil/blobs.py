"""Constants in a weight file, read one at a time.

A file is a header of 64 bytes (count, version) and blobs. A value points at a record of 64 bytes: a
sentinel, the type, the size in bytes and the offset of the data. The layout is that of coremltools'
``milstorage``, version 2. Values below 8 bits lie packed, lowest bits first.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from .package import damaged

_SENTINEL = 0xDEADBEEF
_RECORD = struct.Struct("<IIQQQ")
_BITS = {"int4": 4, "uint6": 6, "uint4": 4, "uint3": 3, "uint2": 2, "uint1": 1}
_DTYPES: dict[str, type[np.generic]] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "uint8": np.uint8,
    "int8": np.int8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}
_STORED = {
    "float16": 1,
    "float32": 2,
    "uint8": 3,
    "int8": 4,
    "int16": 6,
    "uint16": 7,
    "int4": 8,
    "uint1": 9,
    "uint2": 10,
    "uint4": 11,
    "uint3": 12,
    "uint6": 13,
    "int32": 14,
    "uint32": 15,
}


def read_blob(file: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one constant.

    Args:
        file: The weight file.
        offset: Of the blob's record.
        dtype: The declared type, such as ``"float16"`` or ``"uint4"``.
        shape: The declared shape.

    Returns:
        The values; those below 8 bits unpacked to one byte each.

    Raises:
        BuildError: If the file does not hold what is declared.
    """
    with file.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(_RECORD.size)
        if len(head) < _RECORD.size:
            raise damaged(file.name, f"a constant at byte {offset}", "the end of the file")
        sentinel, stored, size, start, _ = _RECORD.unpack(head)
        if sentinel != _SENTINEL or stored != _STORED.get(dtype):
            raise damaged(file.name, f"a constant of {dtype} at byte {offset}", "other bytes")
        wanted = bytes_of(dtype, shape)
        if size != wanted or start + size > file.stat().st_size:
            found = f"{size} bytes at {start} of {file.stat().st_size}"
            raise damaged(file.name, f"{wanted} bytes for a constant of shape {list(shape)}", found)
        stream.seek(start)
        return decode(stream.read(size), dtype, shape)


def bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Count the bytes that a constant takes when stored."""
    count = math.prod(shape)
    return (count * _BITS[dtype] + 7) // 8 if dtype in _BITS else count * np.dtype(_DTYPES[dtype]).itemsize


def decode(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read stored bytes as values of a shape, of which they are exactly enough."""
    if dtype not in _BITS:
        return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    bits, count = _BITS[dtype], math.prod(shape)
    single = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits]
    values = (single.reshape(count, bits) << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if dtype == "int4":
        return (((values ^ 8).astype(np.int8)) - 8).reshape(shape)
    return values.reshape(shape)


def known(dtype: str) -> bool:
    """Say whether constants of this type can be read."""
    return dtype in _BITS or dtype in _DTYPES


def numpy_type(dtype: str) -> type[np.generic]:
    """Give the numpy type that holds one value of this type."""
    if dtype in _BITS:
        return np.int8 if dtype == "int4" else np.uint8
    return _DTYPES[dtype]
