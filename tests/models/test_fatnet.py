"""FatNet: its sizes and its baseline's, the frozen map, even kernels, the deploy form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.fatnet as family
from fourfold.models.registry import get_spec

TINY = family.FatConfig(
    stem=family.Layer(4, 5, 8),
    pairs=(
        family.doubled(family.Layer(4)),
        (family.Layer(6, 4, 5), family.Layer(5, 6)),
        (family.Layer(3, 4), family.Layer(5, 3)),
    ),
    grid=(2, 5),
    last_kernel=(2, 5),
    size=16,
    classes=10,
)
PUBLISHED = {
    "fatnet_cifar100": (11_103_253, 148_792, 1_154_648_736),
    "fatnet_resnet_cifar100": (11_057_892, 1_220_800, 188_991_488),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_public_networks(name: str) -> None:
    params, pairs, macs = PUBLISHED[name]
    spec = get_spec(name)
    with torch.device("meta"):
        model, x = spec.build().eval(), torch.empty(1, 3, 32, 32)
    counter = FlopCounterMode(display=False)
    with counter:
        assert model(x).shape == (1, 100)
    assert sum(p.numel() for p in model.parameters()) == spec.params == params
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(c.in_channels * c.out_channels for c in convs) == pairs
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_are_those_of_the_public_state_dict(name: str) -> None:
    names = [n for n, _ in get_spec(name).build().named_parameters()]
    assert names[:2] == ["conv1.0.weight", "conv1.0.bias"]
    assert {"conv1.1.weight", "res1.0.0.weight", "res2.1.1.bias", "conv4.1.0.weight"} <= set(names)
    last = "classifier.1.weight" if name == "fatnet_cifar100" else "classifier.2.weight"
    assert names[-2] == last


def test_map_is_frozen_at_as_many_pixels_as_classes() -> None:
    sizes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        model = get_spec("fatnet_cifar100").build().eval()
        for module in model:
            module.register_forward_hook(lambda _, __, y: sizes.append(tuple(y.shape[2:])))
        model(torch.empty(1, 3, 32, 32))
    assert sizes == [(16, 16)] * 3 + [(10, 10)] * 6 + [()]


@pytest.mark.parametrize("kernel", [(4, 4), (1, 2), (10, 7), (2, 9)])
def test_even_kernel_reaches_one_pixel_further_to_the_right_and_below(kernel: tuple[int, int]) -> None:
    conv = family.same_conv(2, 1, kernel).double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    height, width = kernel
    expected = torch.zeros(2, 1, 6, 5, dtype=torch.float64)
    for row in range(6):
        for column in range(5):
            for i in range(height):
                for j in range(width):
                    r, c = row + i - (height - 1) // 2, column + j - (width - 1) // 2
                    if 0 <= r < 6 and 0 <= c < 5:
                        expected[:, 0, row, column] += x[:, :, r, c] @ conv.weight[0, :, i, j]
    assert close(conv(x), expected + conv.bias)


def forward(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """TINY from its state dict, by torch's own padding, pooling and batch norm."""

    def layer(name: str, t: Tensor) -> Tensor:
        y = F.conv2d(t, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding="same")
        stats = (w[f"{name}.1.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *stats).relu()

    x = F.avg_pool2d(layer("conv1", x), 2)
    x = layer("res1.1", layer("res1.0", x)) + x
    x = layer("conv2.1", F.adaptive_avg_pool2d(layer("conv2.0", x), 5))
    x = layer("res2.1", layer("res2.0", x)) + x
    x = F.adaptive_avg_pool2d(x, (2, 5))
    return F.conv2d(x, w["classifier.1.weight"], w["classifier.1.bias"], padding="same").flatten(1)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_network_equals_its_formula(randomise) -> None:
    model = randomise(family.fatnet(TINY)).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert close(model(x), forward(model.state_dict(), x))


@pytest.mark.parametrize("grid", [(2, 5), None], ids=["fat", "linear"])
def test_deploy_form_equals_the_trained_form(grid, randomise, folds_exactly) -> None:
    model = randomise(family.fatnet(replace(TINY, grid=grid)))
    folds_exactly(model, torch.randn(3, 3, 16, 16))
    assert not [m for m in model.fused().modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("name", "shape"), [("fatnet_nano", (1, 28, 28)), ("fatnet_cifar_nano", (3, 32, 32))]
)
def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(
    name: str, shape: tuple[int, ...], randomise, answers_alone
) -> None:
    model = randomise(get_spec(name).build())
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 300_000
    answers_alone(model, torch.randn(3, *shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fatnet_nano", "fatnet_cifar_nano", "fatnet_cifar100", "fatnet_resnet_cifar100"]
)
def test_engines_agree_with_torch(name: str, reach_engines) -> None:
    exported = reach_engines(name)
    operators = {node.op_type for node in exported.model.graph}
    assert operators <= {
        "Conv",
        "Relu",
        "Add",
        "AveragePool",
        "MatMul",
        "MaxPool",
        "Gemm",
        "Reshape",
        "Flatten",
    }
