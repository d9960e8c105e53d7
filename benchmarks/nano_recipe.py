"""How each small network is trained: everything that decides its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    steps: int = 7500
    batch: int = 128
    seed: int = 0
    optimizer: Literal["AdamW", "Muon"] = "AdamW"
    """Muon for the matrices; what is no matrix is moved by AdamW in any case."""
    peak_lr: float = 3e-3
    warmup: int = 500
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    shift: int = 2
    """Largest shift in pixels, in both directions."""
    edge: Literal["constant", "reflect"] = "constant"
    """What comes in at the edge: zeros, or the mirrored picture."""
    small: int = 0
    """Pixels per side of the pictures in the first part of the run; 0 means as they are."""
    small_share: float = 0.5
    """Share of the steps that ``small`` holds for."""
    ema: float = 0.998
    clip: float = 1.0
    """Largest norm of the gradient."""
    bfloat16: bool = False
    """Products of the training in bfloat16; weights, sums of the optimizer and scores stay float32."""
    channels_last: bool = True
    """Memory order of pictures and kernels; faster where most layers are convolutions of maps."""


FASHION = Recipe(steps=6000, optimizer="Muon", peak_lr=4e-3, warmup=300, bfloat16=True)
CIFAR = replace(FASHION, steps=5000, label_smoothing=0.1, shift=4, edge="reflect")
GROWING = replace(CIFAR, shift=2, small=24, small_share=0.7)
"""For a small budget: small pictures first, which cost half as much; less augmentation for a dozen epochs."""

RECIPES = {
    "smt_nano": Recipe(),
    "convshare_vit_nano": replace(FASHION, channels_last=False),
    "fatnet_nano": FASHION,
    "ninformer_nano": replace(FASHION, steps=4000),
    "fmvit_nano": replace(FASHION, steps=4500),
    "minimal_nano": FASHION,
    "perceiver_nano": replace(FASHION, steps=3500),
    "moh_vit_nano": replace(FASHION, steps=1500, warmup=150, channels_last=False),
    "rsmamba_nano": replace(
        FASHION, steps=2400, batch=64, warmup=150, ema=0.995, bfloat16=False, channels_last=False
    ),
    "ep_nano": replace(FASHION, steps=3000),
    "gaussian_nano": replace(FASHION, steps=2000, batch=64, warmup=150, ema=0.995, channels_last=False),
    "ggem_nano": replace(FASHION, steps=3000),
    "path_vit_nano": replace(FASHION, steps=3000, channels_last=False),
    "mhs_vm_nano": Recipe(
        steps=2000, batch=32, warmup=150, label_smoothing=0.0, edge="reflect", ema=0.995, channels_last=False
    ),
    "m3vit_nano_semseg": replace(FASHION, steps=3000, edge="reflect", channels_last=False),
    "moh_dit_nano": Recipe(
        steps=12000, optimizer="Muon", label_smoothing=0.0, ema=0.999, channels_last=False
    ),
    "fatnet_cifar_nano": replace(CIFAR, steps=7000),
    "smt_cifar_nano": replace(GROWING, steps=8500, shift=4),
    "fmvit_cifar_nano": replace(GROWING, steps=8500, shift=4),
    "ep_cifar_nano": replace(GROWING, steps=4000),
    "perceiver_cifar_nano": replace(GROWING, steps=4500),
}
"""What each network is trained by; a network without a line has no recipe yet."""


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rise linearly, then fall to zero as half a cosine."""
    if step < recipe.warmup:
        return recipe.peak_lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.peak_lr * 0.5 * (1 + math.cos(math.pi * done))


def picture_size(recipe: Recipe, step: int, full: int) -> int:
    """Give the pixels per side of a step's pictures."""
    early = recipe.small > 0 and step < recipe.small_share * recipe.steps
    return recipe.small if early else full
