"""Both heads sit on any backbone: whatever the layout of its features, they see the patch tokens."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from fourfold.models.attach import Attached, Layout
from fourfold.models.efficient_probing import ProbeHead
from fourfold.models.ggem import GgemHead
from fourfold.models.small_trunk import small_trunk
from fourfold.models.timm_models import _timm

WIDTH = 32


class LastAxis(nn.Module):
    """Maps with channels last, as some transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = small_trunk(3, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x).permute(0, 2, 3, 1)


def timm_vit() -> nn.Module:
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
    return _timm().create_model("vit_tiny_patch16_224", num_classes=0, global_pool="", **sizes)


def by_tokens(features: Tensor) -> Tensor:
    return features[:, 1:]


def by_maps(features: Tensor) -> Tensor:
    return torch.stack([features[:, :, i, j] for i in range(4) for j in range(4)], dim=1)


def by_last(features: Tensor) -> Tensor:
    return torch.stack([features[:, i, j] for i in range(4) for j in range(4)], dim=1)


BACKBONES: dict[Layout, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "tokens": (timm_vit, by_tokens),
    "maps": (lambda: small_trunk(3, WIDTH, 1), by_maps),
    "maps_last": (LastAxis, by_last),
}
HEADS: dict[str, Callable[[], nn.Module]] = {
    "probe": lambda: ProbeHead(WIDTH, classes=4, queries=4),
    "ggem": lambda: GgemHead(WIDTH, groups=4, classes=4),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layout", BACKBONES)
def test_head_sees_the_patch_tokens(layout: Layout, head: str, randomise, answers_alone) -> None:
    if layout == "tokens" and find_spec("timm") is None:
        pytest.skip("timm is optional")
    torch.manual_seed(1)
    build, tokens_of = BACKBONES[layout]
    skip = 1 if layout == "tokens" else 0
    model = randomise(Attached(build(), HEADS[head](), layout=layout, skip=skip)).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        expected = model.head(tokens_of(model.backbone(x)))
        assert (model(x) - expected).abs().max() <= 1e-12 * expected.abs().max()
    answers_alone(model, x)
