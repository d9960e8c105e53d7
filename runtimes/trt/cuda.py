"""The CUDA driver, as much of it as an inference needs: memory, copies, one stream, two events.

The driver's own library comes with every NVIDIA driver, so nothing else has to be installed. Names and
meanings are those of the CUDA Driver API; the primary context is the one that TensorRT uses too.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_WITH_TIMING = 0
_NAME_BYTES = 256


class CudaError(Exception):
    """The driver refused a call."""


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine."""

    index: int
    name: str
    compute: str
    """``SM89``."""


def driver() -> Any:
    """Load the driver's library.

    Raises:
        OSError: If there is none.
    """
    return ctypes.CDLL(_LIBRARY)


def find_gpu(compute: str) -> Gpu | str:
    """Find the first GPU of a compute capability on this machine, or say why there is none."""
    try:
        found = _gpus(driver())
    except OSError:
        return f"no NVIDIA driver is installed here ({_LIBRARY} does not load)"
    except CudaError as error:
        return f"the NVIDIA driver finds no GPU here ({error})"
    matching = [gpu for gpu in found if gpu.compute == compute]
    if matching:
        return matching[0]
    here = ", ".join(f"{gpu.name} ({gpu.compute})" for gpu in found) or "none"
    return f"no GPU of {compute} is here (found: {here})"


def call(library: Any, function: str, *arguments: Any) -> None:
    """Call the driver.

    Raises:
        CudaError: If it answers anything but success; with the driver's own words for it.
    """
    status = getattr(library, function)(*arguments)
    if status == 0:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    said = text.value.decode(errors="replace") if text.value else f"error {status}"
    raise CudaError(f"{function}: {said}")


def _gpus(library: Any) -> list[Gpu]:
    call(library, "cuInit", 0)
    count = ctypes.c_int()
    call(library, "cuDeviceGetCount", ctypes.byref(count))
    return [_gpu(library, index) for index in range(count.value)]


def _gpu(library: Any, index: int) -> Gpu:
    handle = ctypes.c_int()
    call(library, "cuDeviceGet", ctypes.byref(handle), index)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    call(library, "cuDeviceGetName", name, _NAME_BYTES, handle)
    parts: list[int] = []
    for attribute in (_MAJOR, _MINOR):
        number = ctypes.c_int()
        call(library, "cuDeviceGetAttribute", ctypes.byref(number), attribute, handle)
        parts.append(number.value)
    return Gpu(index, name.value.decode(errors="replace"), f"SM{parts[0]}{parts[1]}")


class Buffer:
    """Memory for one tensor, twice: page-locked on the host, and on the GPU. It grows and never shrinks."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.size = 0
        self.host = 0
        self.device = 0

    def reserve(self, size: int) -> None:
        """Make room for so many bytes."""
        if size <= self.size:
            return
        self.free()
        host, device = ctypes.c_void_p(), ctypes.c_void_p()
        call(self._library, "cuMemHostAlloc", ctypes.byref(host), ctypes.c_size_t(size), 0)
        self.host = host.value or 0
        call(self._library, "cuMemAlloc_v2", ctypes.byref(device), ctypes.c_size_t(size))
        self.device, self.size = device.value or 0, size

    def view(self, size: int) -> memoryview:
        """Give the host's side as bytes."""
        return memoryview((ctypes.c_ubyte * size).from_address(self.host)).cast("B")

    def free(self) -> None:
        """Give both back."""
        host, device = self.host, self.device
        self.size = self.host = self.device = 0
        if device:
            call(self._library, "cuMemFree_v2", ctypes.c_void_p(device))
        if host:
            call(self._library, "cuMemFreeHost", ctypes.c_void_p(host))


class Cuda:
    """The primary context of one GPU, a stream, and events around an inference; frees them at its end."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._library = driver()
        self._handle = ctypes.c_int()
        self._context = ctypes.c_void_p()
        self._stream = ctypes.c_void_p()
        self._events = (ctypes.c_void_p(), ctypes.c_void_p())
        self._buffers: list[Buffer] = []
        try:
            self._open()
        except CudaError:
            self.close()
            raise

    def _open(self) -> None:
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._handle), self.gpu.index)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)
        self.enter()
        self._call("cuStreamCreate", ctypes.byref(self._stream), 0)
        for event in self._events:
            self._call("cuEventCreate", ctypes.byref(event), _WITH_TIMING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stream(self) -> int:
        """Handle of the stream, as TensorRT takes it."""
        return self._stream.value or 0

    def enter(self) -> None:
        """Make the context current in the thread that calls."""
        self._call("cuCtxSetCurrent", self._context)

    def buffer(self) -> Buffer:
        """Make an empty buffer that is freed with everything else."""
        made = Buffer(self._library)
        self._buffers.append(made)
        return made

    def to_device(self, buffer: Buffer, size: int) -> None:
        """Queue the copy of so many bytes to the GPU."""
        where = ctypes.c_void_p(buffer.device), ctypes.c_void_p(buffer.host)
        self._call("cuMemcpyHtoDAsync_v2", *where, ctypes.c_size_t(size), self._stream)

    def to_host(self, buffer: Buffer, size: int) -> None:
        """Queue the copy of so many bytes to the host."""
        where = ctypes.c_void_p(buffer.host), ctypes.c_void_p(buffer.device)
        self._call("cuMemcpyDtoHAsync_v2", *where, ctypes.c_size_t(size), self._stream)

    def mark(self, end: int) -> None:
        """Queue an event: 0 before the inference, 1 after it."""
        self._call("cuEventRecord", self._events[end], self._stream)

    def between(self) -> float:
        """Give the milliseconds between the two events, once both have happened."""
        elapsed = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(elapsed), *self._events)
        return elapsed.value

    def wait(self) -> None:
        """Return when everything that was queued is done."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free buffers, events, stream and context; a second call does nothing.

        A GPU that failed refuses to free as well; the failure itself was reported before.
        """
        if self._context.value:
            # Another thread than the one that opened it may close it.
            with suppress(CudaError):
                self.enter()
        for buffer in self._buffers:
            with suppress(CudaError):
                buffer.free()
        self._buffers.clear()
        for event in self._events:
            self._release("cuEventDestroy_v2", event)
        self._release("cuStreamDestroy_v2", self._stream)
        if self._context.value:
            self._context.value = None
            with suppress(CudaError):
                self._call("cuDevicePrimaryCtxRelease_v2", self._handle)

    def _release(self, function: str, handle: ctypes.c_void_p) -> None:
        if handle.value:
            value, handle.value = handle.value, None
            with suppress(CudaError):
                self._call(function, ctypes.c_void_p(value))

    def _call(self, function: str, *arguments: Any) -> None:
        call(self._library, function, *arguments)
