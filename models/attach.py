"""A backbone and a pooling head put together, whatever the layout of the backbone's features.

With a backbone of timm, whose ``global_pool=""`` leaves the features as they are::

    backbone = timm.create_model("vit_small_patch16_224", num_classes=0, global_pool="")
    model = Attached(backbone, ProbeHead(384, classes=1000), skip=backbone.num_prefix_tokens)

Axis letters: B batch, C channels, H height, W width, N tokens, D width of a token, K classes.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..errors import BuildError

Layout = Literal["tokens", "maps", "maps_last"]
"""Of features: (B, N, D), (B, D, H, W) or (B, H, W, D)."""


class Attached(nn.Module):
    """A head on the tokens of a backbone."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, layout: Layout = "tokens", skip: int = 0
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.layout: Layout = layout
        self.skip = skip
        """Tokens before the patches, such as a class token, that the head does not see."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        return self.head(to_tokens(self.backbone(x), self.layout)[:, self.skip :])


def to_tokens(features: Tensor, layout: Layout) -> Tensor:
    """Give features of any layout as (B, N, D).

    Raises:
        BuildError: If the features do not have the number of axes of the layout.
    """
    axes = 3 if layout == "tokens" else 4
    if features.ndim != axes:
        message = (
            f"expected features of {axes} axes for the layout {layout!r}, got shape {tuple(features.shape)}; "
            "choose the layout of the backbone, without its pooling"
        )
        raise BuildError(message)
    if layout == "tokens":
        return features
    return features.flatten(2).mT if layout == "maps" else features.flatten(1, 2)
