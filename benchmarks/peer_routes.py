"""The routes that other tools offer from the same torch module to an inference, each on one thread.

Every function gives a call that takes no arguments and returns the answer; the input is fixed at batch 1,
as the tools' own examples have it, so every engine knows all shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

Call = Callable[[], np.ndarray]


def eager(module: nn.Module, x: np.ndarray) -> Call:
    """Torch as it comes."""
    tensor = torch.from_numpy(x)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(tensor).numpy()

    return call


def inductor(module: nn.Module, x: np.ndarray) -> Call:
    """``torch.compile`` with its default back end; compiled by the first call, here."""
    call = eager(torch.compile(module), x)
    call()
    return call


def plain_export(module: nn.Module, x: np.ndarray, path: Path) -> None:
    """``torch.onnx.export`` with its defaults, in one file."""
    torch.onnx.export(
        module,
        (torch.from_numpy(x),),
        path,
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )


def ort_call(path: Path, x: np.ndarray) -> Call:
    """ONNX Runtime with its default optimizations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": x})[0]


def ov_call(model: object, x: np.ndarray) -> Call:
    """OpenVINO tuned for latency; in float32, since the processor may offer bfloat16."""
    import openvino as ov

    config = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    return lambda: np.array(request.infer({0: x})[compiled.output(0)])


def quantize_static(plain: Path, samples: Callable[[], Iterator[np.ndarray]], out: Path) -> None:
    """Quantize with ONNX Runtime's own tool: uint8 activations and int8 weights, as it advises for x86."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = samples()

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else {"image": sample}

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def nncf_int8(plain: Path, samples: Callable[[], Iterator[np.ndarray]], *, transformer: bool) -> object:
    """Quantize with NNCF's post-training quantization of the OpenVINO model."""
    import nncf
    import openvino as ov

    inputs = list(samples())
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    return nncf.quantize(
        ov.Core().read_model(plain), nncf.Dataset(inputs), model_type=kind, subset_size=len(inputs)
    )
