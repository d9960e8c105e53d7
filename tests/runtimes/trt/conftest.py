"""A GPU that is played: two kinds of memory, a queue that runs at a wait, and an engine."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fourfold.export.artifact import Exported
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.trt import cuda
from fourfold.runtimes.trt.facts import Facts
from fourfold.runtimes.trt.session import TrtSession

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 3] x, int64[batch] i, float s) => (float[batch, 4] y, bool[batch, 4] z) {
  t = Gather(table, i)  m = MatMul(x, w)  a = Add(m, t)  y = Mul(a, s)  z = Greater(y, s)
}"""
BYTES = b"an engine"


@dataclass
class Driver:
    """The CUDA driver, played: device memory is not the host's, and nothing runs before a wait."""

    compute: tuple[int, int] = (8, 9)
    count: int = 1
    fails: dict[str, int] = field(default_factory=dict)
    host: dict[int, Any] = field(default_factory=dict)
    device: dict[int, Any] = field(default_factory=dict)
    handles: set[int] = field(default_factory=set)
    queue: list[Callable[[], None]] = field(default_factory=list)
    clock: dict[int, float] = field(default_factory=dict)
    now: float = 0.0
    retained: int = 0
    current: bool = False
    """Whether the context is current in the thread that calls."""

    def __getattribute__(self, name: str) -> Any:
        fails = object.__getattribute__(self, "fails")
        if name in fails:
            return lambda *arguments: fails[name]
        return object.__getattribute__(self, name)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = self.count
        return 0

    def cuDeviceGet(self, out: Any, index: int) -> int:
        out._obj.value = index
        return 0

    def cuDeviceGetName(self, out: Any, size: int, handle: Any) -> int:
        out.value = b"Played GPU"
        return 0

    def cuDeviceGetAttribute(self, out: Any, attribute: int, handle: Any) -> int:
        out._obj.value = self.compute[attribute - 75]
        return 0

    def cuGetErrorString(self, status: int, out: Any) -> int:
        out._obj.value = {2: b"out of memory", 201: b"invalid context", 700: b"an illegal memory access"}[
            status
        ]
        return 0

    def cuDevicePrimaryCtxRetain(self, out: Any, handle: Any) -> int:
        self.retained += 1
        out._obj.value = 77
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, handle: Any) -> int:
        self.retained -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        self.current = context.value == 77 and self.retained > 0
        return 0 if self.current else 700

    def _handle(self, out: Any) -> int:
        out._obj.value = 1000 + len(self.handles)
        self.handles.add(out._obj.value)
        return 0

    def cuStreamCreate(self, out: Any, flags: int) -> int:
        return self._handle(out)

    def cuEventCreate(self, out: Any, flags: int) -> int:
        return self._handle(out)

    def cuStreamDestroy_v2(self, handle: Any) -> int:
        self.handles.remove(handle.value)
        return 0

    cuEventDestroy_v2 = cuStreamDestroy_v2

    def _allocate(self, out: Any, size: Any, kind: dict[int, Any]) -> int:
        if not self.current:
            return 201
        memory = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        out._obj.value = ctypes.addressof(memory)
        kind[out._obj.value] = memory
        return 0

    def cuMemAlloc_v2(self, out: Any, size: Any) -> int:
        return self._allocate(out, size, self.device)

    def cuMemHostAlloc(self, out: Any, size: Any, flags: int) -> int:
        return self._allocate(out, size, self.host)

    def cuMemFree_v2(self, pointer: Any) -> int:
        if not self.current:
            return 201
        del self.device[pointer.value]
        return 0

    def cuMemFreeHost(self, pointer: Any) -> int:
        if not self.current:
            return 201
        del self.host[pointer.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert source.value in self.host
        assert to.value in self.device
        self.queue.append(lambda: ctypes.memmove(to.value, source.value, size.value) and None)
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        assert source.value in self.device
        assert to.value in self.host
        self.queue.append(lambda: ctypes.memmove(to.value, source.value, size.value) and None)
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        self.queue.append(lambda: self.clock.__setitem__(event.value, self.now))
        return 0

    def cuEventElapsedTime(self, out: Any, start: Any, end: Any) -> int:
        out._obj.value = self.clock[end.value] - self.clock[start.value]
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        for step in self.queue:
            step()
        self.queue.clear()
        return 0


class Context:
    """An execution context, played: reads and writes device memory when the queue comes to it."""

    def __init__(self, gpu: Driver, exported: Exported) -> None:
        self.gpu, self.specs = gpu, {s.name: s for s in (*exported.inputs, *exported.outputs)}
        self.inputs = [s.name for s in exported.inputs]
        self.outputs = [s.name for s in exported.outputs]
        self.answer = evaluate(exported.model)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.accepts = True
        self.lacking: list[str] = []
        self.shapes_told = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        self.shapes_told += 1
        return True

    def infer_shapes(self) -> list[str]:
        return self.lacking

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = self.shapes["x"][0]
        return tuple(batch if dim == "batch" else int(dim) for dim in self.specs[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.gpu.device
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream in self.gpu.handles
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        self.gpu.queue.append(lambda: self._compute(shapes, addresses))
        return self.accepts

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        feed = {}
        for name in self.inputs:
            dtype = np.dtype(self.specs[name].dtype)
            memory = self.gpu.device[addresses[name]].raw[: int(np.prod(shapes[name])) * dtype.itemsize]
            feed[name] = np.frombuffer(memory, dtype).reshape(shapes[name])
        for name, array in self.answer(feed).items():
            data = np.ascontiguousarray(array).tobytes()
            ctypes.memmove(addresses[name], data, len(data))
        self.gpu.now += 1.5


@dataclass
class Engine:
    """An engine, played."""

    context: Context | None
    config: Any = None
    layers: str = '{"Layers": []}'

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="LAZY")

    def create_execution_context(self, config: Any = None) -> Context | None:
        self.config = config
        return self.context

    def get_tensor_dtype(self, name: str) -> str:
        assert self.context is not None
        return self.context.specs[name].dtype

    def get_tensor_location(self, name: str) -> str:
        return "DEVICE"

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda form: self.layers)


def played(made: Engine | None, said: str = "") -> Any:
    """A TensorRT that loads one engine, and says something to its logger if it does not."""

    class ILogger:
        WARNING = 2

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            assert data == BYTES
            if made is None:
                self.logger.log(1, said)
            return made

    return SimpleNamespace(
        ILogger=ILogger,
        Runtime=Runtime,
        nptype=np.dtype,
        TensorLocation=SimpleNamespace(HOST="HOST", DEVICE="DEVICE"),
        LayerInformationFormat=SimpleNamespace(JSON="JSON"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="EAGER"),
    )


def feed_of(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(batch, 3)).astype(np.float32),
        "i": rng.integers(0, 5, batch),
        "s": np.array(rng.normal(), np.float32),
    }


@dataclass
class Bench:
    gpu: Driver
    exported: Exported
    engine: Engine
    compiled: Path
    facts: Facts

    said: str = ""
    """What TensorRT logs when the engine does not load."""

    def open(self, *, loads: bool = True) -> TrtSession:
        gpu = cuda.find_gpu("SM89")
        assert isinstance(gpu, cuda.Gpu)
        return TrtSession(self.compiled, self.facts, trt=self.trt(loads=loads), gpu=gpu)

    def trt(self, *, loads: bool = True) -> Any:
        return played(self.engine if loads else None, self.said)

    def with_facts(self, **changed: Any) -> "Bench":
        return replace(self, facts=replace(self.facts, **changed))

    def feed(self, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
        return feed_of(batch, seed)

    def held(self) -> tuple[int, int, int, int]:
        return len(self.gpu.host), len(self.gpu.device), len(self.gpu.handles), self.gpu.retained


@pytest.fixture
def bench(build: Callable[..., Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    rng, gpu = np.random.default_rng(1), Driver()
    weights = {"w": rng.normal(size=(3, 4)).astype(np.float32), "table": rng.normal(size=(5, 4))}
    exported = build(NET, feed_of(2), w=weights["w"], table=weights["table"].astype(np.float32))
    compiled = tmp_path / "model.engine"
    compiled.write_bytes(BYTES)
    shapes = {"x": [[1, 3], [2, 3], [8, 3]], "i": [[1], [2], [8]]}
    facts = Facts(
        *("TensorRT-RTX", "tensorrt_rtx", "1.7", "SM89", "", "fp32", "", len(BYTES)),
        *(exported.inputs, exported.outputs, shapes, {}, {}, ()),
    )
    monkeypatch.setattr(cuda, "driver", lambda: gpu)
    yield Bench(gpu, exported, Engine(Context(gpu, exported)), compiled, facts)
    assert len(gpu.host) == len(gpu.device) == len(gpu.handles) == gpu.retained == 0
