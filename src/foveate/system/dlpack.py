# SPDX-License-Identifier: Apache-2.0
"""Capsules of the standard DLPack, through which libraries exchange arrays without a copy.

See https://dmlc.github.io/dlpack/latest/c_api.html for the structures.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, PYFUNCTYPE, c_char_p, c_int, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

CUDA = 2
"""The type of a device that is a GPU of CUDA."""

_NAME = b"dltensor"  # a capsule keeps the pointer to its name
_KINDS = {"i": 0, "u": 1, "f": 2}
_CODES = {code: kind for kind, code in _KINDS.items()}


class _Device(ctypes.Structure):
    _fields_ = (("type", c_int32), ("number", c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device", _Device),
        ("ndim", c_int32),
        ("dtype", _DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter))


def _function(name: str, result: Any, *arguments: Any) -> Any:
    return PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new = _function("PyCapsule_New", ctypes.py_object, c_void_p, c_char_p, c_void_p)
_pointer = _function("PyCapsule_GetPointer", c_void_p, ctypes.py_object, c_char_p)
# A destructor gets an object that must not be referenced any more, hence an address.
_pointer_at = _function("PyCapsule_GetPointer", c_void_p, c_void_p, c_char_p)
_is_valid_at = _function("PyCapsule_IsValid", c_int, c_void_p, c_char_p)


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array as a capsule describes it.

    Args:
        address: Address of the first element.
        shape: Lengths of the axes.
        strides: Distances between neighbors along the axes, in elements; None if dense, in C order.
        dtype: Type of the elements, such as ``uint8``; a name, since NumPy may not have it.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str


def read(capsule: object) -> Array:
    """Return what a capsule describes; the memory is valid as long as the capsule."""
    managed = ctypes.cast(_pointer(capsule, _NAME), POINTER(_ManagedTensor)).contents
    tensor = managed.tensor
    kind = {"i": "int", "u": "uint", "f": "float"}.get(_CODES.get(tensor.dtype.code, ""), "other")
    lanes = "" if tensor.dtype.lanes == 1 else f"x{tensor.dtype.lanes}"
    return Array(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=tuple(tensor.shape[: tensor.ndim]),
        strides=tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        dtype=f"{kind}{tensor.dtype.bits}{lanes}",
    )


def write(
    address: int,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    device: tuple[int, int],
    owner: object,
) -> object:
    """Return a capsule of a dense array, which keeps ``owner`` alive until the consumer is done."""
    lengths = (c_int64 * len(shape))(*shape)
    managed = _ManagedTensor()
    managed.tensor.data = address
    managed.tensor.device = _Device(*device)
    managed.tensor.ndim = len(shape)
    managed.tensor.dtype = _DataType(_KINDS[dtype.kind], 8 * dtype.itemsize, 1)
    managed.tensor.shape = ctypes.cast(lengths, POINTER(c_int64))
    managed.deleter = _delete
    place = ctypes.addressof(managed)
    _alive[place] = (managed, lengths, owner)
    return _new(place, _NAME, ctypes.cast(_destroy, c_void_p))


_alive: dict[int, tuple[object, ...]] = {}  # what consumers have not given back, by address


class _Consumed:
    """What consumers call, with all that it needs, since they may outlive the names of this module."""

    def __init__(self) -> None:
        self.alive, self.name = _alive, _NAME
        self.is_valid_at, self.pointer_at = _is_valid_at, _pointer_at

    def give_back(self, place: int) -> None:
        self.alive.pop(place, None)

    def destroy_capsule(self, capsule: int) -> None:
        """Give back an array that no consumer has taken; a consumer renames the capsule."""
        if self.is_valid_at(capsule, self.name):
            self.give_back(self.pointer_at(capsule, self.name))


_consumed = _Consumed()
_delete = _Deleter(_consumed.give_back)
_destroy = PYFUNCTYPE(None, c_void_p)(_consumed.destroy_capsule)
for _callback in (_delete, _destroy):  # never released, not even with this module
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_callback))
