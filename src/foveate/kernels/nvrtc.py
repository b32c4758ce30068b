# SPDX-License-Identifier: Apache-2.0
"""The few functions of NVRTC that compiling a kernel takes, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from foveate.errors import BackendError


class NvrtcLibrary:
    """A loaded libnvrtc.

    Args:
        path: The library.

    Raises:
        BackendError: It cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        try:
            # libnvrtc asks for these by their bare name, which only finds what is loaded already.
            for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise BackendError(
                f"NVRTC cannot be loaded: {error}",
                file=path,
                remedy="run: pip install --force-reinstall nvidia-cuda-nvrtc",
            ) from error
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> str:
        """Major and minor version."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "")
        return f"{major.value}.{minor.value}"

    def compile(self, source: Path, options: Sequence[str], form: str) -> tuple[bytes, str]:
        """Compile a file.

        Args:
            source: The file.
            options: As for nvcc, as far as NVRTC knows them.
            form: ``"ptx"`` or ``"cubin"``.

        Returns:
            The code, and the compiler's log.

        Raises:
            BackendError: The source has an error or a warning.
        """
        program = ctypes.c_void_p()
        create = self._library.nvrtcCreateProgram
        name = str(source).encode()
        self._check(
            create(ctypes.byref(program), source.read_bytes(), name, 0, None, None), str(source)
        )
        try:
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._library.nvrtcCompileProgram(program, len(options), given)
            log = self._read(program, "ProgramLog").decode().rstrip("\0\n")
            if status != 0 or "warning" in log:
                raise BackendError(f"NVRTC cannot compile: {log}", file=source)
            code = self._read(program, form.upper())
            return code.rstrip(b"\0") if form == "ptx" else code, log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        get_size = getattr(self._library, f"nvrtcGet{what}Size")
        self._check(get_size(program, ctypes.byref(size)), what)
        text = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, text), what)
        return text.raw

    def _check(self, status: int, what: str) -> None:
        if status != 0:
            words = self._library.nvrtcGetErrorString(status).decode()
            raise BackendError(f"NVRTC failed: {words} {what}".rstrip())
