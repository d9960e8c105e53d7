"""Networks in simulated light: exact where it is ideal, trainable where it is not."""

import pytest
import torch
from torch import nn

from fourfold.errors import RunError, UsageError
from fourfold.runtimes.optical4f.absorb import absorb_norms
from fourfold.runtimes.optical4f.conditions import IDEAL, Conditions
from fourfold.runtimes.optical4f.in_light import Light, in_light, optical_layers
from fourfold.runtimes.optical4f.tune import TuneRecipe, fine_tune

DIM = Conditions(adc_bits=4, electrons=2000.0, full_well=2000.0)


class Net(nn.Module):
    """Convolutions of every kind and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=(1, 0), stride=(1, 2))
        self.second = nn.Conv2d(6, 6, (3, 2), groups=3, dilation=(2, 1), bias=False)
        self.point = nn.Conv2d(6, 5, 1)
        self.head = nn.Linear(5, 7)
        self.last = nn.Linear(7, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x)) - 0.3
        x = self.point(self.second(x)).flatten(2).mean(2)
        return self.last(torch.tanh(self.head(x)))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("scheme", ["homodyne", "reference", "phase-shifting"])
def test_ideal_light_computes_the_network(net: Net, scheme: str) -> None:
    x = drawn(3, 2, 9, 11)
    wanted = net(x).detach()
    with in_light(net, Light(IDEAL, scheme), generator()) as names:
        answer = net(x)
    assert names == ("first", "second", "head", "last"), "a kernel of one pixel needs no lens"
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x), wanted, rtol=0, atol=0)  # the network is as it was


def test_ideal_light_has_the_gradients_of_the_network(net: Net) -> None:
    net, x = net.double(), drawn(2, 2, 7, 9, dtype=torch.float64)
    net(x).square().sum().backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    with in_light(net, Light(IDEAL), generator()):
        net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-7, atol=1e-9)


def test_dim_light_is_noisy_and_repeatable(net: Net) -> None:
    x = drawn(2, 2, 9, 11)
    wanted = net(x).detach()
    answers: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        with in_light(net, Light(DIM), torch.Generator().manual_seed(seed)):
            answers.append(net(x).detach())
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    assert 1e-3 < float((answers[0] - wanted).norm() / wanted.norm()) < 2


def test_a_network_without_layers_is_refused() -> None:
    with (
        pytest.raises(UsageError, match="light has nothing to do"),
        in_light(nn.ReLU(), Light(DIM), generator()),
    ):
        pass


def test_the_hooks_go_when_the_block_fails(net: Net) -> None:
    x = drawn(2, 2, 9, 11)
    wanted = net(x).detach()
    with pytest.raises(ValueError, match="inside"), in_light(net, Light(DIM), generator()):
        raise ValueError("inside")  # noqa: EM101
    assert torch.equal(net(x), wanted)


def divergence(net: nn.Module, teacher: nn.Module, light: Light) -> float:
    x = drawn(256, 1, 6, 6, seed=99)
    with torch.no_grad(), in_light(net, light, torch.Generator().manual_seed(5)):
        answer = net(x).log_softmax(1)
    with torch.no_grad():
        wanted = teacher(x).softmax(1)
    return float(nn.functional.kl_div(answer, wanted, reduction="batchmean"))


def test_tuning_brings_a_network_nearer_to_float_on_fresh_samples() -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)  # answers far apart, so that noise matters
    light = Light(Conditions(adc_bits=2, electrons=3000.0, full_well=3000.0))
    recipe = TuneRecipe(steps=40, learning_rate=0.02)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    losses: list[float] = []
    batches = [drawn(32, 1, 6, 6, seed=seed) for seed in range(40)]
    tuned = fine_tune(net, batches, light, recipe, tell=lambda _, loss: losses.append(loss))
    assert len(losses) == 40
    assert divergence(tuned, net, light) < 0.8 * divergence(net, net, light)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), "the original stays as it was"
    assert tuned.state_dict().keys() == before.keys()


def test_absorbed_norms_keep_the_answers_and_only_shift() -> None:
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.BatchNorm2d(3)
    ).double()
    lone = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)).double()
    for norm in (net[1], net[4], lone[0], lone[3]):
        for values in (norm.weight.data, norm.running_var):
            values.copy_(torch.rand_like(values) + 0.3)
        for values in (norm.bias.data, norm.running_mean):
            values.copy_(torch.randn_like(values))
    x = drawn(2, 2, 7, 8, dtype=torch.float64)
    for module, count in ((net.eval(), 2), (lone.eval(), 0)):
        wanted, keys = module(x).detach(), list(module.state_dict())
        assert absorb_norms(module, x) == count
        torch.testing.assert_close(module(x).detach(), wanted, rtol=1e-12, atol=1e-12)
        assert list(module.state_dict()) == keys
    torch.testing.assert_close(net[1].weight, torch.sqrt(net[1].running_var + net[1].eps))


def test_a_shared_norm_is_not_absorbed() -> None:
    norm = nn.BatchNorm2d(2)
    net = nn.Sequential(nn.Conv2d(2, 2, 1), norm, nn.Conv2d(2, 2, 1), norm).eval()
    assert absorb_norms(net, drawn(1, 2, 3, 3)) == 0


def test_tuning_ends_with_its_batches_and_repeats(net: Net) -> None:
    batches = [drawn(8, 2, 9, 11, seed=seed) for seed in range(3)]
    runs = [fine_tune(net, batches, Light(DIM), TuneRecipe(steps=50)).state_dict() for _ in range(2)]
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name])


def test_a_loss_that_is_no_number_is_refused(net: Net) -> None:
    with torch.no_grad():
        net.last.weight[0, 0] = float("nan")
    with pytest.raises(RunError, match="expected a finite loss, got nan in step 1"):
        fine_tune(net, [drawn(4, 2, 9, 11)], Light(DIM), TuneRecipe())


def test_only_what_has_a_fixed_kernel_is_optical() -> None:
    net = nn.ModuleDict(
        {
            "same": nn.Conv2d(1, 1, 3, padding="same"),
            "mirror": nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
            "one": nn.Linear(1, 4),
            "norm": nn.BatchNorm2d(3),
            "kept": nn.Conv2d(1, 1, (1, 3)),
        }
    )
    assert list(optical_layers(net)) == ["kept"]
