# SPDX-License-Identifier: Apache-2.0
"""Sessions of ONNX Runtime and the texts of its errors, without the messages that it prints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

from foveate.bundle.external_data import external_files
from foveate.bundle.manifest import TensorSpec
from foveate.errors import BackendError, BundleError, FoveateError
from foveate.system.resources import shortage

Provider = str | tuple[str, dict[str, str]]
"""An execution provider of ONNX Runtime by its name, or with its options."""

_LONGEST = 240
# An error code, the file (our errors name it themselves), and a place in ONNX Runtime's sources.
_NOISE = (
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from .*? failed: ?",
    r"^/onnxruntime_src/.*\) ",
)
_DTYPES = {"float": "float32", "float16": "float16", "int64": "int64", "int32": "int32"}


def session_options(threads: int) -> Any:
    """Return options of a session for images of any size.

    Args:
        threads: Number of threads that run an operator on the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors become ours
    options.intra_op_num_threads = threads
    # ONNX Runtime would keep one memory pattern per image size forever.
    options.enable_mem_pattern = False
    return options


def open_session(
    source: Path | bytes, options: Any, providers: Sequence[Provider] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Open a session on a file, or on the content of one.

    Raises:
        Exception: ONNX Runtime cannot load it; its errors have no other common class.
    """
    if isinstance(source, Path):
        try:
            str(source).encode()
        except UnicodeEncodeError:  # ONNX Runtime accepts file names in UTF-8 only
            source = source.read_bytes()
    # With the fallback enabled, ONNX Runtime prints to standard output when it changes the provider.
    return onnxruntime.InferenceSession(
        source, options, providers=list(providers), enable_fallback=0
    )


def readable_path(path: Path, file: int | None) -> Path:
    """Return the path to read a stage from: that of its open file, if a session can use it.

    Args:
        path: The ONNX file. A session needs this path if weights lie in files next to it.
        file: Descriptor of the same file, or None.
    """
    opened = Path(f"/proc/self/fd/{file}")
    if file is None or not opened.exists():
        return path
    with opened.open("rb") as stream:
        return path if any(external_files(stream, opened.stat().st_size)) else opened


def read_specs(
    session: onnxruntime.InferenceSession, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return names, dtypes and shapes of the inputs and of the outputs of a session.

    Raises:
        BundleError: A name is not UTF-8 text.
    """
    try:
        return (
            tuple(_spec(value) for value in session.get_inputs()),
            tuple(_spec(value) for value in session.get_outputs()),
        )
    except UnicodeDecodeError as error:
        raise BundleError(
            "a stage has a name that is not UTF-8 text", file=path, remedy="export it again"
        ) from error


def loading_errors(path: Path) -> AbstractContextManager[None]:
    """Raise the errors of loading a stage as ours.

    Raises:
        BackendError: Memory or threads run out.
        BundleError: ONNX Runtime cannot load the stage.
    """
    remedy = (
        "export the bundle again: foveate export CHECKPOINT --output BUNDLE, or update onnxruntime"
    )
    return _errors(path, BundleError, "ONNX Runtime cannot load a stage", remedy)


def running_errors(path: Path) -> AbstractContextManager[None]:
    """Raise the errors of running a stage as ours.

    Raises:
        BackendError: Memory or threads run out, or ONNX Runtime fails.
    """
    return _errors(path, BackendError, "ONNX Runtime failed", "run: foveate verify BUNDLE")


@contextmanager
def _errors(path: Path, kind: type[FoveateError], what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except BackendError:
        raise
    except Exception as error:  # its errors have no other common class
        if (short := shortage(error)) is not None:
            raise short from error
        raise kind(f"{what} ({first_line(error)})", file=path, remedy=remedy) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error without internals of ONNX Runtime, truncated if long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _spec(value: Any) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(length if length is not None else "?" for length in value.shape)
    return TensorSpec(name=value.name, dtype=_DTYPES.get(kind, kind), shape=shape)
