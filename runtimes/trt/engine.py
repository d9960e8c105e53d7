"""TensorRT on NVIDIA GPUs: strongly typed engines, built here ahead of time or on the device itself.

The compiled file is the engine; the JSON file beside it holds what is known about it (``facts``). Precision
is what the graph says: TF32 is off, and no layer is free to choose another type. A build runs in a process of
its own (``child``), which makes engines of TensorRT-RTX byte-identical from build to build.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ...calibration.scheme import SYMMETRIC
from ...errors import BuildError, UnavailableError
from ...export.artifact import Exported
from ..device import Device
from ..exhibit import Exhibit
from ..runtime import Capabilities, Runtime, Session
from ..serialize import serialize
from .cuda import find_gpu
from .exhibits import exhibits_of
from .facts import beside, facts_of, read_facts, write_facts
from .flavour import Choice, choose
from .order import Outcome, carry_out
from .profile import profile_of
from .session import TrtSession
from .support import explained, known, refused, require
from .words import builder_reason


class TrtRuntime:
    """Compiles for, and runs on, NVIDIA GPUs with TensorRT-RTX or classic TensorRT."""

    name = "trt"
    library = "tensorrt-rtx"
    passes: tuple[str, ...] = ("attention_to_matmul", "dft_to_matmul", "integers_to_float")
    capabilities = Capabilities(
        opset=20,
        opsets=(7, 25),
        precisions=("fp32", "fp16", "int8"),
        qdq=SYMMETRIC,
        control_flow={"If": "yes", "Loop": "yes", "Scan": "yes"},
        attention="partly",
        fft="partly",
        dynamic_shapes="partly",
        notes={
            "attention": "the operator builds in float16 only; in float32 it is written as matrix products",
            "fft": "has no operator; a transform of known length is written as one matrix product",
            "dynamic_shapes": "only the batch is free, within the sizes of the device's row",
        },
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``."""
        chosen = choose(device)
        return chosen if isinstance(chosen, str) else None

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: an engine runs on a GPU of its compute capability only."""
        found = find_gpu(device.compute)
        return device.elsewhere() or (found if isinstance(found, str) else None)

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: nothing stands in for a GPU."""
        return None

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``: ask about every node, build, and write engine and facts.

        Raises:
            UnsupportedError: If TensorRT does not take a node; with every such node and its reason.
        """
        choice = choose(device)
        if isinstance(choice, str):
            raise UnavailableError(f"{device.name}: {choice}")
        title = choice.flavour.title
        profile, doubts = profile_of(exported, device), known(exported.model, choice.compute)
        engine = out / "model.engine"
        outcome = carry_out(
            serialize(exported), choice, profile, engine=engine, name=exported.name, build=not doubts
        )
        found = (*doubts, *refused(outcome.findings, exported.model))
        require(explained(found, exported.history), title, exported.name)
        if not outcome.built:
            raise BuildError(_not_built(exported, choice, outcome))
        write_facts(facts_of(exported, choice, profile, outcome, engine.read_bytes()), beside(engine))
        return engine

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``.

        Raises:
            UnavailableError: If the GPU is not here.
        """
        facts, gpu = read_facts(compiled), find_gpu(device.compute)
        if isinstance(gpu, str):
            raise UnavailableError(f"{device.name}: {gpu}")
        return TrtSession(compiled, facts, trt=import_module(facts.module), gpu=gpu)

    def describe(self, compiled: Path, device: Device) -> tuple[Exhibit, ...]:
        """See ``Describes.describe``: the engine, and the fused layers it consists of."""
        return exhibits_of(read_facts(compiled), self.cannot_run(device))


def _not_built(exported: Exported, choice: Choice, outcome: Outcome) -> str:
    why = "; ".join(dict.fromkeys(builder_reason(text) for text in outcome.errors())) or "no reason given"
    return f"expected {choice.flavour.title} to accept {exported.name}, got: {why}; change the model"


RUNTIME: Runtime = TrtRuntime()
