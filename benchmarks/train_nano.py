"""Train the weights of a small network that the package ships in ``models/trained``.

    OMP_NUM_THREADS=1 python benchmarks/train_nano.py smt_nano FOLDER --checkpoint a.pt
    OMP_NUM_THREADS=1 python benchmarks/train_nano.py smt_cifar_nano cifar10.zip --checkpoint b.pt

FOLDER and the zip are those of ``nano_data.py``; networks that find pasted items learn from the file of
``pasted_items.py``. The budget is a number of steps, the batch of a step depends on the seed and the step
alone, and a run that finds its checkpoint goes on from there. The averaged weights are scored on all 10,000
test images, those of Fashion-MNIST also on the 2,000 that the package ships; no test image takes part in
training or in any choice.

``nano_recipe.py`` says how each network is trained, ``nano_tasks.py`` and its neighbours what it learns. Set
``weights`` in the network's spec afterwards.

Axis letters: B batch, N images, C channels, H and W height and width, T tokens, M maps of a token, h and w
their height and width.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from nano_data import Images, augmented
from nano_mask import Mask, Regions
from nano_noise import Noise
from nano_optimizer import optimizers_for
from nano_recipe import RECIPES, Recipe, learning_rate, picture_size
from nano_tasks import Classes, Given, Scores, Task, answers_of
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.models.conv_share_vit import SharedConv
from fourfold.models.registry import get_spec
from fourfold.models.spec import ModelSpec

TRAINED = Path(__file__).parents[1] / "models" / "trained"
OTHERS: dict[str, Task] = {"mhs_vm_nano": Mask(), "moh_dit_nano": Noise(), "m3vit_nano_semseg": Regions()}
"""Networks that learn something else than classes."""


def task_of(spec: ModelSpec) -> Task:
    """Give what a network learns."""
    return OTHERS.get(spec.name) or Classes(spec)


def batch_at(task: Task, images: Images, recipe: Recipe, step: int) -> Given:
    """Give one step's batch: a slice of the epoch's permutation, mirrored and shifted at random."""
    per_epoch = len(images) // recipe.batch
    epoch, index = divmod(step, per_epoch)
    order = torch.randperm(len(images), generator=_generator(recipe.seed, 1, epoch))
    chosen = order[index * recipe.batch : (index + 1) * recipe.batch]
    pixels = augmented(images.pixels[chosen], recipe.shift, recipe.edge, _generator(recipe.seed, 2, step))
    size = picture_size(recipe, step, pixels.shape[-1])
    return task.given(pixels, images.labels[chosen], size, _generator(recipe.seed, 4, step))


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*key))


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


@torch.no_grad()
def average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics a step towards the current ones."""
    for mean, value in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def multiply_tokens(model: nn.Module) -> None:
    """Compute convolutions that cover a whole token as matrix products: the same sums, faster here."""
    for module in model.modules():
        if isinstance(module, SharedConv) and module.conv.kernel_size == module.shape[1:]:
            module.forward = partial(_product, module)


def _product(shared: SharedConv, x: Tensor) -> Tensor:
    """(B, T, M, h, w) to (B, T, M', h, w)."""
    answer = F.linear(x.flatten(2), shared.conv.weight.flatten(1), shared.conv.bias)
    return answer.reshape(*x.shape[:2], *shared.shape)


def train(spec: ModelSpec, task: Task, images: Images, recipe: Recipe, checkpoint: Path) -> nn.Module:
    """Run the recipe and return the averaged model."""
    torch.manual_seed(recipe.seed)
    model = spec.build()
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(model)
    multiply_tokens(model)
    optimizers = optimizers_for(model, recipe)
    parts = {"model": model, "ema": ema} | {f"optimizer{i}": o for i, o in enumerate(optimizers)}
    start, began = resume(checkpoint, recipe, parts), time.perf_counter()
    for step in range(start, recipe.steps):
        loss = loss_at(model, task, batch_at(task, images, recipe, step), recipe, step)
        descend(model, loss, optimizers, recipe, step)
        average(ema, model, min(recipe.ema, (1 + step) / (10 + step)))
        if (step + 1) % 100 == 0:
            pace = (time.perf_counter() - began) / (step + 1 - start)
            print(f"step {step + 1}/{recipe.steps} loss {loss:.4f} {pace:.3f} s/step", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            save_checkpoint(checkpoint, recipe, step + 1, parts)
    return ema.eval()


def loss_at(model: nn.Module, task: Task, batch: Given, recipe: Recipe, step: int) -> Tensor:
    """Compute the loss of one step."""
    model.train()
    torch.manual_seed(_seed(recipe.seed, 3, step))  # of dropout, so that a resumed run goes on alike
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        answers = answers_of(model, batch.inputs)
    return task.loss(answers, batch.target, recipe.label_smoothing)


def descend(
    model: nn.Module, loss: Tensor, optimizers: Iterable[torch.optim.Optimizer], recipe: Recipe, step: int
) -> None:
    """Move all weights by one step."""
    model.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.step()


Part = nn.Module | torch.optim.Optimizer
"""Something with a state that a checkpoint keeps."""


def resume(path: Path, recipe: Recipe, parts: dict[str, Part]) -> int:
    """Load every part from a checkpoint, if there is one, and give the step to go on with."""
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    if saved["recipe"] != asdict(recipe):
        message = f"expected a checkpoint of this recipe in {path}, got another; remove it"
        raise SystemExit(message)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["step"]


def save_checkpoint(path: Path, recipe: Recipe, step: int, parts: dict[str, Part]) -> None:
    """Write everything needed to go on, whole or not at all."""
    state = {name: part.state_dict() for name, part in parts.items()}
    unfinished = path.with_suffix(".partial")
    torch.save(state | {"recipe": asdict(recipe), "step": step}, unfinished)
    unfinished.replace(path)


def write(spec: ModelSpec, model: nn.Module, recipe: Recipe, data: str, scores: Scores) -> None:
    """Write the weights and, beside them, how they came about and what they score."""
    weights = TRAINED / f"{spec.name}.safetensors"
    # Copied, since some networks have a tensor under two names, as their public checkpoints do.
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, weights)
    weights.chmod(0o644)
    record = {
        "model": spec.name,
        "data": data,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": asdict(recipe) | {"schedule": "linear warm-up, cosine to zero"},
        "torch": torch.__version__,
        **scores,
    }
    text = json.dumps(record, indent=2)
    weights.with_suffix(".json").write_text(text + "\n")
    print(text, flush=True)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="name of the network in the zoo", choices=sorted(RECIPES))
    parser.add_argument("data", type=Path, help="folder of Fashion-MNIST, zip of CIFAR-10, or pasted items")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where to keep the state of the run")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    return parser.parse_args()


def main() -> None:
    """Train, score, write."""
    options = parsed()
    torch.set_num_threads(1)
    spec, recipe = get_spec(options.model), RECIPES[options.model]
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    task = task_of(spec)
    data = task.data
    splits = task.read(options.data, options.checkpoint.parent)
    model = train(spec, task, splits["train"], recipe, options.checkpoint)
    write(spec, model, recipe, data, task.scores(model, splits["test"]))


if __name__ == "__main__":
    main()
