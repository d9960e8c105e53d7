"""What every family's tests need: weights that hide nothing, and the whole way to two engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn

from fourfold.export.artifact import Exported, Run
from fourfold.export.check import check
from fourfold.export.parity import Parity, require
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.reparam import reparameterize
from fourfold.export.to_onnx import to_onnx
from fourfold.export.torch_run import torch_run
from fourfold.harness.swept import Swept, record
from fourfold.models.census import census
from fourfold.models.fusible import Fusible
from fourfold.models.registry import get_spec
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import runtime_for
from fourfold.runtimes.reference import evaluate

M = TypeVar("M", bound=nn.Module)
Randomise = Callable[[M], M]
ReachEngines = Callable[..., Exported]
ROWS = ("cpu-ort", "cpu-openvino")


def _randomise(module: M, seed: int = 3) -> M:
    """Move everything that starts at a constant (zeros, ones, layer scales, statistics) away from it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            if key.endswith("running_var"):
                value.uniform_(0.2, 2, generator=generator)
            elif value.numel() == 1 or value.min() == value.max():
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return module.eval()


@pytest.fixture
def randomise() -> Callable[[M], M]:
    """Give every constant parameter and statistic of a module random values; evaluation mode."""
    return _randomise


@pytest.fixture
def reach_engines(tmp_path: Path) -> ReachEngines:
    """Build, randomise, fold, export, rewrite, compile and compare a model with torch in every CPU engine."""

    def run(name: str, *, batches: tuple[int, ...] = (1, 3)) -> Exported:
        exported, _ = _reach(name, tmp_path, batches)
        return exported

    return run


@pytest.fixture
def sweep_engines(tmp_path: Path) -> Callable[..., Swept]:
    """Do the same, and give the record of what was found."""

    def run(name: str, *, batches: tuple[int, ...]) -> Swept:
        size = census(get_spec(name))
        _, found = _reach(name, tmp_path, batches)
        final, _ = found["cpu-ort"]
        parities = {row: compared for row, (_, compared) in found.items()}
        return record(final, parities, parameters=size.parameters, macs=size.macs)

    return run


Found = dict[str, tuple[Exported, tuple[Parity, ...]]]


def _reach(name: str, folder: Path, batches: tuple[int, ...]) -> tuple[Exported, Found]:
    spec = get_spec(name)
    torch.manual_seed(0)
    module = _randomise(spec.build())
    folded, _ = reparameterize(module, spec.inputs)
    exported = to_onnx(folded, name, spec.inputs, spec.outputs, opset=20, evaluate=evaluate)
    reference = torch_run(module, spec.inputs, spec.outputs)
    return exported, {row: _engine(row, exported, reference, folder / row, batches) for row in ROWS}


def _engine(
    row: str, exported: Exported, reference: Run, folder: Path, batches: tuple[int, ...]
) -> tuple[Exported, tuple[Parity, ...]]:
    device = get_device(row)
    runtime = runtime_for(device)
    final = rewrite(exported, COMMON + runtime.passes, evaluate=evaluate)
    folder.mkdir()
    compiled = runtime.compile(final, device, folder)
    with runtime.open(compiled, device) as session:
        names = ("torch", row)
        found = check("fp32", reference, session.run, exported.inputs, names=names, batches=batches)
    require(found, row)
    return final, found


Checked = Callable[[nn.Module, torch.Tensor], None]


@pytest.fixture
def folds_exactly() -> Checked:
    """Compare a module with its deploy form in float64, and make sure that neither touches the other."""

    def run(module: nn.Module, x: torch.Tensor) -> None:
        module, x = module.double().eval(), x.double()
        before = {k: v.clone() for k, v in module.state_dict().items()}
        assert isinstance(module, Fusible)
        folded = module.fused()
        with torch.no_grad():
            expected, actual = module(x), folded(x)
        assert expected.std(dim=0).max() > 1e-3 * expected.abs().max(), "the answer must depend on the input"
        assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()
        assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())
        own = {p.data_ptr() for p in module.parameters()}
        assert not own & {p.data_ptr() for p in folded.parameters()}

    return run


@pytest.fixture
def answers_alone() -> Checked:
    """A batch of several gives what each gives alone, and the same again at the second time."""

    def run(module: nn.Module, x: torch.Tensor) -> None:
        with torch.no_grad():
            together, again = module(x), module(x)
            alone = torch.cat([module(one[None]) for one in x])
        assert torch.equal(together, again)
        assert (together - alone).abs().max() <= 1e-5 * together.abs().max()

    return run
