"""Train the weights of a small network that the package ships in ``models/trained``.

    OMP_NUM_THREADS=1 python benchmarks/train_nano.py smt_nano FOLDER --checkpoint smt_nano.pt

FOLDER holds the four ``*-ubyte.gz`` files of Fashion-MNIST (see ``fashion_mnist_subset.py``). The budget is
a number of steps, the batch of a step depends on the seed and the step alone, and a run that finds its
checkpoint goes on from there. The averaged weights are scored on all 10,000 test images and on the 2,000 that
the package ships; no test image takes part in training or in any choice.

Every network is trained by `Recipe`, with the differences that `RECIPES` lists. Set ``weights`` in the
network's spec afterwards.

Axis letters: B batch, N images, T tokens, M maps of a token, h and w their height and width.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fashion_mnist_subset import read_split
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.models.conv_share_vit import SharedConv
from fourfold.models.image_sets import FASHION_MNIST
from fourfold.models.registry import get_spec
from fourfold.models.spec import ModelSpec

ROOT = Path(__file__).parents[1]
TRAINED = ROOT / "models" / "trained"
SHIPPED = ROOT / "calibration" / "data" / "fashion_mnist.npz"
(MEAN,), (STD,) = FASHION_MNIST.mean, FASHION_MNIST.std


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    steps: int = 7500
    batch: int = 128
    seed: int = 0
    peak_lr: float = 3e-3
    warmup: int = 500
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    shift: int = 2
    """Largest shift in pixels, in both directions; zeros come in at the edge."""
    ema: float = 0.998
    clip: float = 1.0
    """Largest norm of the gradient."""
    channels_last: bool = True
    """Memory order of pictures and kernels; faster where most layers are convolutions of maps."""


SHORT = Recipe(steps=3400, batch=64, peak_lr=2e-3, warmup=100, shift=1, ema=0.99)
"""For a budget of a few epochs: less augmentation, and an average over fewer steps."""

RECIPES = {
    "smt_nano": Recipe(),
    "convshare_vit_nano": replace(SHORT, channels_last=False),
    "ninformer_nano": replace(SHORT, steps=950),
}
"""What differs from the recipe's defaults, by network; a network without a line is trained by these."""


def normalised(images: np.ndarray) -> Tensor:
    """Turn uint8 images (N, 28, 28) into one float tensor (N, 1, 28, 28)."""
    return (torch.from_numpy(images).float().div_(255) - MEAN).div_(STD).unsqueeze(1)


def batch_at(images: Tensor, labels: Tensor, recipe: Recipe, step: int) -> tuple[Tensor, Tensor]:
    """Give one step's batch: a slice of the epoch's permutation, flipped and shifted at random."""
    per_epoch = len(images) // recipe.batch
    epoch, index = divmod(step, per_epoch)
    order = torch.randperm(len(images), generator=_generator(recipe.seed, 1, epoch))
    chosen = order[index * recipe.batch : (index + 1) * recipe.batch]
    return augmented(images[chosen], recipe.shift, _generator(recipe.seed, 2, step)), labels[chosen]


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*key))


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def augmented(x: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirror each of (B, 1, 28, 28) with probability one half, then shift it by up to ``shift`` pixels."""
    n, size = len(x), x.shape[-1]
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    padded = F.pad(x, (shift,) * 4, value=-MEAN / STD)[:, 0]
    offset = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator)
    grid = torch.arange(size)
    rows, columns = offset[0] + grid, offset[1] + grid
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rise linearly, then fall to zero as half a cosine."""
    if step < recipe.warmup:
        return recipe.peak_lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.peak_lr * 0.5 * (1 + math.cos(math.pi * done))


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_lr)


@torch.no_grad()
def average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics a step towards the current ones."""
    for mean, value in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers on images (N, 1, 28, 28)."""
    model.eval()
    answers = torch.cat([model(x).argmax(1) for x in images.split(500)])
    return int((answers == labels).sum()) / len(labels)


def multiply_tokens(model: nn.Module) -> None:
    """Compute convolutions that cover a whole token as matrix products: the same sums, faster here."""
    for module in model.modules():
        if isinstance(module, SharedConv) and module.conv.kernel_size == module.shape[1:]:
            module.forward = partial(_product, module)


def _product(shared: SharedConv, x: Tensor) -> Tensor:
    """(B, T, M, h, w) to (B, T, M', h, w)."""
    answer = F.linear(x.flatten(2), shared.conv.weight.flatten(1), shared.conv.bias)
    return answer.reshape(*x.shape[:2], *shared.shape)


def train(spec: ModelSpec, images: Tensor, labels: Tensor, recipe: Recipe, checkpoint: Path) -> nn.Module:
    """Run the recipe and return the averaged model."""
    torch.manual_seed(recipe.seed)
    model = spec.build()
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    ema, optimizer, start = copy.deepcopy(model), optimizer_for(model, recipe), 0
    multiply_tokens(model)
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] != asdict(recipe):
            message = f"expected a checkpoint of this recipe in {checkpoint}, got another; remove it"
            raise SystemExit(message)
        for name, thing in (("model", model), ("ema", ema), ("optimizer", optimizer)):
            thing.load_state_dict(saved[name])
        start = saved["step"]
    began = time.perf_counter()
    for step in range(start, recipe.steps):
        loss = train_step(model, optimizer, batch_at(images, labels, recipe, step), recipe, step)
        average(ema, model, min(recipe.ema, (1 + step) / (10 + step)))
        if (step + 1) % 100 == 0:
            pace = (time.perf_counter() - began) / (step + 1 - start)
            print(f"step {step + 1}/{recipe.steps} loss {loss:.4f} {pace:.3f} s/step", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            save_checkpoint(checkpoint, recipe, step + 1, model=model, ema=ema, optimizer=optimizer)
    return ema


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    recipe: Recipe,
    step: int,
) -> float:
    """Do one step and return its loss."""
    model.train()
    torch.manual_seed(_seed(recipe.seed, 3, step))  # of dropout, so that a resumed run goes on alike
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    loss = F.cross_entropy(model(batch[0]), batch[1], label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return loss.item()


def save_checkpoint(
    path: Path, recipe: Recipe, step: int, **things: nn.Module | torch.optim.Optimizer
) -> None:
    """Write everything needed to go on, whole or not at all."""
    state = {name: thing.state_dict() for name, thing in things.items()}
    partial = path.with_suffix(".partial")
    torch.save(state | {"recipe": asdict(recipe), "step": step}, partial)
    partial.replace(path)


def write(name: str, model: nn.Module, recipe: Recipe, scores: dict[str, float]) -> None:
    """Write the weights and, beside them, how they came about and what they score."""
    weights = TRAINED / f"{name}.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    weights.chmod(0o644)
    record = {
        "model": name,
        "data": "Fashion-MNIST, all 60,000 training images",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": asdict(recipe) | {"optimizer": "AdamW", "schedule": "linear warm-up, cosine to zero"},
        "torch": torch.__version__,
        **scores,
    }
    weights.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2), flush=True)


def spec_of(name: str) -> ModelSpec:
    """Give the spec of a network that answers for Fashion-MNIST."""
    spec = get_spec(name)
    if spec.dataset != "fashion_mnist":
        raise SystemExit(
            f"expected a network for fashion_mnist, got {name} for {spec.dataset}; see fourfold models"
        )
    return spec


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="name of the network in the zoo")
    parser.add_argument("folder", type=Path, help="folder with the four *-ubyte.gz files")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where to keep the state of the run")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    return parser.parse_args()


def main() -> None:
    """Train, score, write."""
    options = parsed()
    torch.set_num_threads(1)
    spec, recipe = spec_of(options.model), RECIPES.get(options.model, Recipe())
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    images, labels = read_split(options.folder, "train")
    model = train(spec, normalised(images), torch.from_numpy(labels).long(), recipe, options.checkpoint)
    images, labels = read_split(options.folder, "t10k")
    shipped = np.load(SHIPPED)
    scores = {
        "accuracy_10000": accuracy(model, normalised(images), torch.from_numpy(labels).long()),
        "accuracy_shipped_2000": accuracy(
            model, normalised(shipped["test_images"]), torch.from_numpy(shipped["test_labels"]).long()
        ),
    }
    write(spec.name, model, recipe, scores)


if __name__ == "__main__":
    main()
