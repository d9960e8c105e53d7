"""What has no exact form in MIL is refused with its reason, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import BuildError
from fourfold.export.artifact import Array, Exported
from fourfold.runtimes.coreml.runtime import CoreMlRuntime
from fourfold.runtimes.device import Device

PHONE = Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target="iOS17")
MAP = "float[B, 4, 8, 8] x"
LINE = "float[B, 4] x"

CASES = {
    "an unknown operator": (MAP, "y = NoSuch(x)", {}, "the operator NoSuch has no lowering"),
    "a dilated pool": (MAP, "y = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x)", {}, "a dilated pool"),
    "places of a pool": (
        MAP,
        "a, b = MaxPool<kernel_shape=[2,2]>(x) c = Cast<to=1>(b) y = Add(a, c)",
        {},
        "places of the largest",
    ),
    "training": (
        MAP,
        "y, m, v = BatchNormalization<training_mode=1>(x, S, S, S, S)",
        {"S": np.ones(4, np.float32)},
        "training mode",
    ),
    "dropout in training": (
        LINE,
        "y = Dropout(x, R, T)",
        {"R": np.float32(0.5), "T": np.array(True)},
        "dropout in training mode",
    ),
    "an axis without elements": ("float[B, 0] x", "y = Relu(x)", {}, "x: an input without elements"),
    "another order of blocks": (MAP, 'y = SpaceToDepth<blocksize=2, mode="CRD">(x)', {}, "the order CRD"),
    "an output of too many dimensions": (
        "float[B, 64] x",
        "y = Reshape(x, S)",
        {"S": np.array([0, 2, 2, 2, 2, 4])},
        "y: an output: a tensor of 6 dimensions",
    ),
    "attention within a window": (
        "float[B, 2, 4, 8] x",
        "y = Attention<left_window_size=1>(x, x, x)",
        {},
        "attention within a window",
    ),
    "a computed padding": (
        LINE,
        "s = Shape(x) p = Concat<axis=0>(s, s) y = Pad(x, p)",
        {},
        "the paddings must",
    ),
    "wrapping": (LINE, 'y = Pad<mode="wrap">(x, P)', {"P": np.array([0, 1, 0, 1])}, "padding by wrap"),
    "the last extreme": (LINE, "y = ArgMax<select_last_index=1>(x)", {}, "the last of equal extremes"),
    "a diagonal": (
        "float[4, 4] x",
        'y = Einsum<equation="ii->i">(x)',
        {},
        "an einsum along a diagonal",
    ),
    "a resize to a size of the run": (
        "float[B, 3, 4, 5] x, int64[4] s",
        "y = Resize(x, , , s)",
        {},
        "the scales of a resize must be a constant",
    ),
    "an empty slice": (
        LINE,
        "y = Slice(x, S, E, A)",
        {"S": np.array([3]), "E": np.array([3]), "A": np.array([1])},
        "without elements",
    ),
    "too many dimensions": (
        "float[B, 64] x",
        "r = Reshape(x, S) y = Relu(r)",
        {"S": np.array([0, 2, 2, 2, 2, 4])},
        "a tensor of 6 dimensions, and Core ML takes 5",
    ),
    "a scale per channel of too many dimensions": (
        "float[B, 64] x",
        "r = Reshape(x, N) q = QuantizeLinear<axis=1>(r, S, Z) d = DequantizeLinear<axis=1>(q, S, Z) "
        "y = Reshape(d, M)",
        {
            "N": np.array([0, 2, 2, 2, 2, 4]),
            "M": np.array([0, 64]),
            "S": np.ones(2, np.float32),
            "Z": np.zeros(2, np.int8),
        },
        "a scale per channel of 6 dimensions, and Core ML takes 5",
    ),
    "int4 before iOS 18": (
        "float[B, 4] x",
        "w = DequantizeLinear<axis=0, block_size=2>(W, R) y = MatMul(x, w)",
        {"W": np.ones((4, 6), np.int8), "R": np.ones((2, 6), np.float32)},
        "from iOS18 on",
    ),
    "activations in 16 bits": (
        LINE,
        "q = QuantizeLinear(x, S, Z) y = DequantizeLinear(q, S, Z)",
        {"S": np.float32(1), "Z": np.int16(0)},
        "activations in int16",
    ),
    "complex numbers": (
        "float[B, 4, 2] x",
        "y = DFT(x, , A)",
        {"A": np.int64(1)},
        "the operator DFT has no lowering",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_named(name: str, build: Callable[..., Exported], tmp_path: Path) -> None:
    inputs, body, weights, reason = CASES[name]
    constants: dict[str, Array] = {key: np.asarray(array) for key, array in weights.items()}
    text = f'<ir_version: 10, opset_import: ["": 21]> net ({inputs}) => (float[B, 4] y) {{ {body} }}'
    exported = build(text, {"x": np.ones((2, 4), np.float32)}, golden=False, **constants)
    with pytest.raises(BuildError, match=f"Core ML to accept net, got: .*{reason}.*; change the model"):
        CoreMlRuntime().compile(exported, PHONE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_system_is_missing() -> None:
    device = Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target="iOS71")
    assert "expected a known deployment target, got 'iOS71'; did you mean" in (
        CoreMlRuntime().missing(device) or ""
    )


def test_a_stand_in_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert "the reference evaluator of MIL" in (CoreMlRuntime().emulated(PHONE) or "")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.mac_ver", lambda: ("14.2", ("", "", ""), ""))
    assert CoreMlRuntime().emulated(PHONE) is None
    monkeypatch.setattr("platform.mac_ver", lambda: ("13.6", ("", "", ""), ""))
    assert "need macOS 14" in (CoreMlRuntime().emulated(PHONE) or "")
