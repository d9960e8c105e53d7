import copy
import math

import pytest
import torch
from torch import nn

from fourfold.errors import VerdictError
from fourfold.export.reparam import reparameterize
from fourfold.models.spec import TensorSpec

IMAGE = (TensorSpec("image", ("batch", 3, 8, 8)),)


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.dtype.is_floating_point:
            value = torch.randn(tensor.shape, generator=generator) * 0.3
            tensor.copy_(value.abs() + 0.5 if name.endswith("running_var") else value)
    return module


class Scaled(nn.Module):
    """y = 2 conv(x); the deploy form is one convolution."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * self.conv(x)

    def fused(self) -> nn.Module:
        conv = copy.deepcopy(self.conv)
        conv.weight = nn.Parameter(conv.weight * self.factor)
        conv.bias = nn.Parameter(conv.bias * self.factor)
        return conv


def test_pairs_and_fusible_modules_are_folded_and_the_original_stays() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    net = randomised(nn.Sequential(block, Scaled(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)))
    folded, step = reparameterize(net, IMAGE)
    kinds = [type(m) for m in folded.modules()]
    assert nn.BatchNorm2d not in kinds
    assert Scaled not in kinds
    assert step.changed == 3
    assert [p.batch for p in step.parity] == [1, 3]
    assert all(p.ok and math.isfinite(p.relative) for p in step.parity)
    assert isinstance(net[1], Scaled)
    assert net.training
    assert not folded.training


def test_a_wrong_deploy_form_is_caught_in_this_step() -> None:
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(factor=2.001)))
    with pytest.raises(VerdictError, match=r"reparameterize.*folded torch to equal torch.*1e-05"):
        reparameterize(net, IMAGE)


def test_a_shared_module_stays_shared() -> None:
    shared = Scaled()
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), shared, nn.ReLU(), shared))
    folded, step = reparameterize(net, IMAGE)
    assert folded[1] is folded[3]
    assert step.changed == 1


class Grown(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 1.0


def _two_users() -> nn.Sequential:
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv)


def _hooked() -> nn.Sequential:
    conv = nn.Conv2d(3, 3, 1)
    conv.register_forward_hook(lambda _module, _inputs, output: output * 2)
    return nn.Sequential(conv, nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), "running stat"),
        (nn.Sequential(Grown(3, 4, 1), nn.BatchNorm2d(4)), "not a plain convolution"),
        (_two_users(), "second place"),
        (_hooked(), "forward hook"),
    ],
)
def test_what_cannot_be_folded_stays_and_says_why(net: nn.Sequential, reason: str) -> None:
    folded, step = reparameterize(randomised(net), IMAGE)
    assert isinstance(folded[1], nn.BatchNorm2d)
    assert step.changed == 0
    assert reason in step.refusals[0].reason
    assert step.refusals[0].where == "1"


def test_a_child_called_fused_is_not_a_deploy_form() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fused(x)

    _, step = reparameterize(randomised(Holder()), IMAGE)
    assert step.changed == 0


def test_one_dimensional_pairs() -> None:
    net = randomised(nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)))
    folded, _ = reparameterize(net, (TensorSpec("signal", ("batch", 3, 9)),))
    assert isinstance(folded[1], nn.Identity)
