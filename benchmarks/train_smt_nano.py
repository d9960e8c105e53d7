"""Train the weights of ``smt_nano`` that the package ships in ``models/trained``.

    OMP_NUM_THREADS=1 python benchmarks/train_smt_nano.py FOLDER --checkpoint /tmp/smt_nano.pt

FOLDER holds the four ``*-ubyte.gz`` files of Fashion-MNIST (see ``fashion_mnist_subset.py``). The budget is
a number of steps, the batch of a step depends on the seed and the step alone, and a run that finds its
checkpoint goes on from there. The averaged weights are scored on all 10,000 test images and on the 2,000 that
the package ships; no test image takes part in training or in any choice.

Axis letters: B batch, N images.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from fashion_mnist_subset import read_split
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.models.image_sets import FASHION_MNIST
from fourfold.models.smt import NANO, Smt

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "models" / "trained" / "smt_nano.safetensors"
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
    state = np.random.SeedSequence(key).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


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


def train(images: Tensor, labels: Tensor, recipe: Recipe, checkpoint: Path) -> nn.Module:
    """Run the recipe and return the averaged model."""
    torch.manual_seed(recipe.seed)
    model = Smt(NANO).to(memory_format=torch.channels_last)
    ema, optimizer, start = copy.deepcopy(model), optimizer_for(model, recipe), 0
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


def write(model: nn.Module, recipe: Recipe, scores: dict[str, float]) -> None:
    """Write the weights and, beside them, how they came about and what they score."""
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, WEIGHTS)
    record = {
        "model": "smt_nano",
        "data": "Fashion-MNIST, all 60,000 training images",
        "sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        "recipe": asdict(recipe) | {"optimizer": "AdamW", "schedule": "linear warm-up, cosine to zero"},
        "torch": torch.__version__,
        **scores,
    }
    WEIGHTS.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2), flush=True)


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four *-ubyte.gz files")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where to keep the state of the run")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(steps=options.steps)
    images, labels = read_split(options.folder, "train")
    model = train(normalised(images), torch.from_numpy(labels).long(), recipe, options.checkpoint)
    images, labels = read_split(options.folder, "t10k")
    shipped = np.load(SHIPPED)
    scores = {
        "accuracy_10000": accuracy(model, normalised(images), torch.from_numpy(labels).long()),
        "accuracy_shipped_2000": accuracy(
            model, normalised(shipped["test_images"]), torch.from_numpy(shipped["test_labels"]).long()
        ),
    }
    write(model, recipe, scores)


if __name__ == "__main__":
    main()
