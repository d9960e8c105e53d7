"""Every small network of the zoo builds, in float32 and float16 (slow)."""

from pathlib import Path

import pytest

from fourfold.export.passes import COMMON, rewrite
from fourfold.export.precision import to_fp16
from fourfold.harness.console import Silent
from fourfold.harness.origin import trace
from fourfold.models.registry import get_spec, model_names
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.trt.facts import read_facts

SMALL = [name for name in model_names() if "nano" in name]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_builds(name: str, tmp_path: Path) -> None:
    runtime, device = get_runtime("trt"), get_device("rtx-4090")
    if reason := runtime.missing(device):
        pytest.skip(reason)
    origin = trace(get_spec(name), runtime, weights=None, seed=0, narrator=Silent())
    exported = rewrite(origin.exported, COMMON + runtime.passes, evaluate=evaluate)
    for precision, graph in (("fp32", exported), ("fp16", to_fp16(exported, evaluate=evaluate))):
        folder = tmp_path / precision
        folder.mkdir()
        layers = read_facts(runtime.compile(graph, device, folder)).layers
        assert any(layer.precision == precision for layer in layers)
