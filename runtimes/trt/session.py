"""An engine opened on its GPU: pinned buffers, one stream, and shapes set anew for every inference."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ...errors import RunError, UsageError
from ...export.artifact import Array, Feed
from ..runtime import Executed
from ..sessions import check_feed, closed, not_run, reason, shares
from .child import logger_of
from .cuda import Buffer, Cuda, CudaError, Gpu
from .facts import Facts
from .layers import from_inspector
from .profile import BATCH


class TrtSession:
    """One network in TensorRT.

    Kernels for a new batch size are specialised while the first inference of that size waits: specialised in
    the background, as is the default, they would change the latency in the middle of a timing.
    """

    def __init__(self, compiled: Path, facts: Facts, *, trt: Any, gpu: Gpu) -> None:
        self._name, self._facts, self._trt = compiled.name, facts, trt
        self._logger = logger_of(trt)
        self._held = ExitStack()
        self._ran = False
        try:
            self._cuda = self._held.enter_context(Cuda(gpu))
            self._engine: Any = self._deserialized(compiled.read_bytes())
            self._context: Any = self._new_context()
            self._outputs = self._output_types()
        except (CudaError, RuntimeError, OSError) as error:
            self._held.close()
            raise self._failed(error, "open", "compile it again") from error
        self._buffers = {spec.name: self._cuda.buffer() for spec in (*facts.inputs, *facts.outputs)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In this order: an engine may not outlive the context of its GPU.
        self._context = self._engine = self._runtime = None
        self._buffers.clear()
        self._held.close()

    def run(self, feed: Feed) -> Feed:
        """See ``Session.run``; the first inference of a new batch size takes longer."""
        if self._context is None:
            raise closed()
        checked = check_feed(feed, self._facts.inputs)
        self._check_batch(checked)
        try:
            self._cuda.enter()
            for name, array in checked.items():
                self._send(name, array)
            sizes = self._prepare_outputs()
            self._infer()
            for name, size in sizes.items():
                self._cuda.to_host(self._buffers[name], size)
            self._cuda.wait()
        except (CudaError, RuntimeError) as error:
            raise self._failed(error, "run", "verify the bundle") from error
        self._ran = True
        return {name: self._received(name) for name in self._outputs}

    def executed(self) -> tuple[Executed, ...]:
        """See ``Session.executed``: asks the engine which kernels it consists of."""
        if self._context is None:
            raise closed()
        if not self._ran:
            raise not_run()
        inspector = self._engine.create_engine_inspector()
        text: str = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        provider = f"{self._facts.title} on {self._cuda.gpu.name}"
        try:
            return shares((provider, layer.precision) for layer in from_inspector(text))
        except ValueError as error:
            raise self._failed(error, "list the layers of", "compile it again") from error

    def device_ms(self) -> float:
        """Give the time that the GPU took for the last inference, without the copies.

        It explains a latency; the latency itself is taken around ``run`` by the one stopwatch.
        """
        if self._context is None:
            raise closed()
        if not self._ran:
            raise not_run()
        return self._cuda.between()

    def _deserialized(self, data: bytes) -> Any:
        self._runtime = self._trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            message = "an engine that does not load"
            raise RuntimeError(message)
        return engine

    def _new_context(self) -> Any:
        if self._facts.module != "tensorrt_rtx":
            context = self._engine.create_execution_context()
        else:
            config = self._engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = (
                self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            context = self._engine.create_execution_context(config)
        if context is None:
            message = "no memory for its activations"
            raise RuntimeError(message)
        return context

    def _output_types(self) -> dict[str, np.dtype[Any]]:
        return {
            spec.name: np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(spec.name)))
            for spec in self._facts.outputs
        }

    def _check_batch(self, feed: Feed) -> None:
        """Refuse a batch that the engine was not built for, which TensorRT would not name."""
        for spec in self._facts.inputs:
            if BATCH not in spec.shape:
                continue
            axis = spec.shape.index(BATCH)
            least, _, most = (shape[axis] for shape in self._facts.profile[spec.name])
            if not least <= (got := feed[spec.name].shape[axis]) <= most:
                message = (
                    f"expected a batch of {least} to {most}, for which {self._name} was built, got {got}; "
                    "set 'batches' in the row of the device and export again"
                )
                raise UsageError(message)

    def _send(self, name: str, array: Array) -> None:
        """Copy one input to its pinned buffer and on to the GPU, and tell its shape and place."""
        buffer = self._buffers[name]
        buffer.reserve(array.nbytes)
        np.copyto(_array(buffer, array.dtype, array.shape), array)
        self._tell(self._context.set_input_shape(name, array.shape), f"the shape of {name}")
        self._place(name, buffer)
        self._cuda.to_device(buffer, array.nbytes)

    def _prepare_outputs(self) -> dict[str, int]:
        """Make room for every output; give their bytes."""
        lacking: Iterable[str] = self._context.infer_shapes()
        if lacking:
            message = f"shapes that depend on {', '.join(lacking)}"
            raise RuntimeError(message)
        sizes: dict[str, int] = {}
        for name, dtype in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            sizes[name] = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            self._buffers[name].reserve(sizes[name])
            self._place(name, self._buffers[name])
        return sizes

    def _place(self, name: str, buffer: Buffer) -> None:
        """Tell where a tensor lies; shapes given as data are read on the host."""
        on_host = self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST
        address = buffer.host if on_host else buffer.device
        self._tell(self._context.set_tensor_address(name, address), f"the place of {name}")

    def _infer(self) -> None:
        self._cuda.mark(0)
        self._tell(self._context.execute_async_v3(self._cuda.stream), "the inference")
        self._cuda.mark(1)

    def _received(self, name: str) -> Array:
        shape = tuple(self._context.get_tensor_shape(name))
        return _array(self._buffers[name], self._outputs[name], shape).copy()

    def _tell(self, accepted: bool, what: str) -> None:
        if not accepted:
            message = f"a refusal of {what}"
            raise RuntimeError(message)

    def _failed(self, error: Exception, verb: str, advice: str) -> RunError:
        """Build the error, with the last that TensorRT logged as the cause."""
        said = [text for severity, text in self._logger.kept if severity <= 1]
        cause = ": ".join([reason(error), *(reason(RuntimeError(text)) for text in said[-1:])])
        return RunError(f"expected TensorRT to {verb} {self._name}, got: {cause}; {advice}")


def _array(buffer: Buffer, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """See the host's side of a buffer as an array."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.frombuffer(buffer.view(size), dtype).reshape(shape)
