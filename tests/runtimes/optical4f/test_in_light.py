"""Networks in simulated light: exact where it is ideal, as noisy as the device, trainable."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fourfold.errors import RunError, UsageError
from fourfold.export.artifact import Exported
from fourfold.runtimes.optical4f.absorb import absorb_norms
from fourfold.runtimes.optical4f.build import build as compile_program
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.in_light import Light, in_light, optical_layers
from fourfold.runtimes.optical4f.presets import get_system
from fourfold.runtimes.optical4f.program import save
from fourfold.runtimes.optical4f.session import Simulation
from fourfold.runtimes.optical4f.tune import TuneRecipe, fine_tune
from fourfold.runtimes.optical4f.vary import Variation

Build = Callable[..., Exported]


def coarse(known: Conditions, bits: int = 4, electrons: float = 2000.0) -> Conditions:
    return replace(known, adc_bits=bits, electrons=electrons, full_well=electrons, read_noise=0.0)


DIM = Light(get_system("lcos-homodyne"), coarse)


def ideal(scheme: str = "homodyne") -> Light:
    return Light(replace(get_system("ideal"), scheme=scheme))


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
    with in_light(net, ideal(scheme), x, generator()) as device:
        answer = net(x)
    assert device.names == ("first", "second", "head", "last"), "a kernel of one pixel needs no lens"
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x), wanted, rtol=0, atol=0)  # the network is as it was


def test_ideal_light_has_the_gradients_of_the_network(net: Net) -> None:
    net, x = net.double(), drawn(2, 2, 7, 9, dtype=torch.float64)
    net(x).square().sum().backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    with in_light(net, ideal(), x, generator()):
        net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-7, atol=1e-9)


def test_dim_light_is_noisy_and_repeatable(net: Net) -> None:
    x = drawn(2, 2, 9, 11)
    wanted = net(x).detach()
    answers: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        with in_light(net, DIM, x, torch.Generator().manual_seed(seed)):
            answers.append(net(x).detach())
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    assert 1e-3 < float((answers[0] - wanted).norm() / wanted.norm()) < 2


def test_a_network_without_layers_is_refused() -> None:
    with (
        pytest.raises(UsageError, match="light has nothing to do"),
        in_light(nn.ReLU(), DIM, drawn(2, 3), generator()),
    ):
        pass


def test_the_hooks_go_when_the_block_fails(net: Net) -> None:
    x = drawn(2, 2, 9, 11)
    wanted = net(x).detach()
    with pytest.raises(ValueError, match="inside"), in_light(net, DIM, x, generator()):
        raise ValueError("inside")  # noqa: EM101
    assert torch.equal(net(x), wanted)


def bars(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw bright rows, columns and diagonals in noise: (N, 1, 8, 8), and which of the three it is."""
    random = torch.Generator().manual_seed(seed)
    kinds = torch.randint(3, (count,), generator=random)
    places = torch.randint(1, 7, (count,), generator=random)
    x = 0.3 * torch.randn(count, 1, 8, 8, generator=random).abs()
    for number in range(count):
        picture, kind, place = x[number, 0], int(kinds[number]), int(places[number])
        slope = picture.diagonal(place - 4)
        (picture[place], picture[:, place], slope)[kind].add_(1)
    return x, kinds


def divergence(net: nn.Module, teacher: nn.Module, light: Light) -> float:
    x = bars(128, 999)[0]
    with torch.no_grad(), in_light(net, light, bars(64, 998)[0], torch.Generator().manual_seed(5)):
        answer = net(x).log_softmax(1)
    with torch.no_grad():
        wanted = teacher(x).softmax(1)
    return float(nn.functional.kl_div(answer, wanted, reduction="batchmean"))


def trained() -> nn.Module:
    """Learn to tell bars, in a second."""
    torch.manual_seed(3)
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(216, 3)),
    )
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for seed in range(80):
        x, kinds = bars(32, seed)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), kinds).backward()
        optimizer.step()
    return net.eval()


def test_tuning_brings_back_most_of_what_few_bits_cost() -> None:
    net = trained()
    light = Light(get_system("lcos-pn"), lambda known: coarse(known, 3, 3000.0))
    recipe = TuneRecipe(steps=20, learning_rate=0.01)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    losses: list[float] = []
    batches = [bars(32, 1000 + seed)[0] for seed in range(20)]
    tuned = fine_tune(
        net, batches, light, recipe, samples=bars(64, 998)[0], tell=lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 20
    assert divergence(tuned, net, light) < 0.5 * divergence(net, net, light)
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
    runs = [
        fine_tune(net, batches, DIM, TuneRecipe(steps=50), samples=batches[0]).state_dict() for _ in range(2)
    ]
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name])


def test_a_loss_that_is_no_number_is_refused(net: Net) -> None:
    with torch.no_grad():
        net.last.weight[0, 0] = float("nan")
    x = drawn(4, 2, 9, 11)
    with pytest.raises(RunError, match="expected a finite loss, got nan in step 1"):
        fine_tune(net, [x], DIM, TuneRecipe(), samples=x)


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
    assert list(optical_layers(net)) == ["same", "mirror", "kept"]


class Padded(nn.Module):
    """Paddings that a module makes itself, as an even kernel needs them."""

    def __init__(self) -> None:
        super().__init__()
        self.even = Even(2, 3, 4)
        self.same = nn.Conv2d(3, 3, (2, 3), padding="same", dilation=2)
        self.mirror = nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mirror(self.same(self.even(x)))


class Even(nn.Conv2d):
    """A convolution that pads before it convolves."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(input, (1, 2, 1, 2)))


def test_light_sees_what_a_layer_really_convolves() -> None:
    torch.manual_seed(3)
    net, x = Padded().eval(), drawn(2, 2, 7, 8)
    wanted = net(x).detach()
    with in_light(net, ideal(), x, generator()) as device:
        answer = net(x)
    assert device.names == ("even", "same", "mirror")
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)


def test_pictures_larger_than_the_plane_stay_electronic() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3)).eval()
    x = drawn(1, 1, 4, 2000)
    with in_light(net, DIM, x, generator()):
        assert torch.equal(net(x), net(x))


MIXED = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 1, 16, 16] x) => (float[batch, 10] y) {
  a = Conv<pads = [2, 2, 2, 2]>(x, w0, b0)
  r = Relu(a)
  b = Conv(r, w1, b1)
  s = Relu(b)
  c = Conv(s, w2, b2)
  f = Flatten(c)
  y = Gemm<transB = 1>(f, w3, b3)
}"""


class Mixed(nn.Module):
    """The same in torch: exposures of some and of all channels, masks that are shared and not."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = nn.Conv2d(1, 24, 5, padding=2), nn.Conv2d(24, 24, 3), nn.Conv2d(24, 1, 7)
        self.layers = nn.ModuleList([first, second, third, nn.Linear(64, 10)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, head = self.layers
        return head(third(torch.relu(second(torch.relu(first(x))))).flatten(1))

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights and biases by the names of the graph."""
        state = {key.removeprefix("layers."): value.numpy() for key, value in self.state_dict().items()}
        return {f"{key.split('.')[1][0]}{key.split('.')[0]}": value for key, value in state.items()}


@pytest.mark.parametrize("scheme", ["homodyne", "pseudo-negative", "incoherent"])
def test_noise_is_that_of_the_compiled_program(scheme: str, tmp_path: Path, build: Build) -> None:
    """The standard deviation of every layer's answers over draws of the noise, within 10 %."""
    torch.manual_seed(7)
    net, x, draws = Mixed().eval(), drawn(8, 1, 16, 16), range(16)
    variation = Variation(scheme, bits=6)
    system = variation.system(get_system("lcos-homodyne"))
    exported = build(MIXED, {"x": x[:4].numpy()}, **net.arrays())
    loaded = compile_program(exported, system, 32, variation.adjust)
    program = save(tmp_path, *loaded)
    assert len({step.setting.channels < step.layer.channels for step in loaded.program.steps}) == 2
    assert len({step.setting.together for step in loaded.program.steps}) == 2

    device: list[list[np.ndarray]] = [[] for _ in loaded.program.steps]
    for seed in draws:
        values = Simulation(program, adjust=variation.adjust, seed=seed).trace({"x": x.numpy()})
        for answers, step in zip(device, loaded.program.steps, strict=True):
            answers.append(values[step.target])

    with in_light(net, Light(system, variation.adjust), x[:4], generator()):
        tuned = list(zip(*(outputs(net, x) for _ in draws), strict=True))
    for here, there in zip(tuned, device, strict=True):
        assert spread(here) == pytest.approx(spread(there), rel=0.1)


def outputs(net: Mixed, x: torch.Tensor) -> list[np.ndarray]:
    """What every layer answers in one pass."""
    found: dict[int, np.ndarray] = {}

    def seen(number: int) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda _, __, y: found.update({number: y.detach().numpy()})

    hooks = [layer.register_forward_hook(seen(number)) for number, layer in enumerate(net.layers)]
    net(x)
    for hook in hooks:
        hook.remove()
    return [found[number] for number in range(len(net.layers))]


def spread(answers: Sequence[np.ndarray]) -> float:
    """Root of the mean variance over draws."""
    return float(np.sqrt(np.stack(answers).var(0, ddof=1).mean()))


def test_ranges_follow_kernels_that_change() -> None:
    """Both layers at three times the strength keep their relative error; ranges that stay lose it."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 3, 3, bias=False)).eval()
    x, light = drawn(16, 2, 9, 11), Light(get_system("lcos-pn"))
    errors: list[float] = []
    with torch.no_grad():
        wanted = net(x)
        with in_light(net, light, x, generator()) as device:
            errors.append(float((net(x) - wanted).norm() / wanted.norm()))
            for parameter in net.parameters():
                parameter.mul_(3)
            errors.append(float((net(x) - 9 * wanted).norm() / (9 * wanted).norm()))
            device.follow()
            errors.append(float((net(x) - 9 * wanted).norm() / (9 * wanted).norm()))
    assert errors[1] > 3 * errors[0]
    assert errors[2] == pytest.approx(errors[0], rel=0.1)
