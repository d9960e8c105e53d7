"""``optical tune``: a few steps of training with the simulated processor in the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calibration.samples import Samples, open_samples, shipped_samples
from ..errors import UsageError
from ..models.sources import resolve
from ..models.spec import ModelSpec
from ..runtimes.optical4f.runtime import batch_of, system_of
from ..runtimes.optical4f.vary import Variation
from .console import Narrator, Silent
from .materials import SET_UP_SAMPLES
from .optical_program import check_free, optical_device

if TYPE_CHECKING:
    from torch import Tensor

    from ..runtimes.optical4f.tune import TuneRecipe


@dataclass(frozen=True)
class Tuned:
    """What a tuning left."""

    weights: Path
    """State of the network, as ``--weights`` of an export takes it."""
    losses: tuple[float, ...]
    """Distance from the float answers, step by step."""
    samples: str
    """What it was tuned on."""


def tune(
    model: str,
    device: str,
    out: Path,
    *,
    variation: Variation | None = None,
    recipe: TuneRecipe | None = None,
    batch: int = 32,
    data: Path | None = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    devices: Path | None = None,
    overwrite: bool = False,
    narrator: Narrator | None = None,
) -> Tuned:
    """Fine-tune a network for a simulated processor, towards its own float answers.

    Args:
        model: A zoo name, a factory, or a timm name: an ONNX file has no weights to train.
        device: An optical row of devices.yaml.
        out: The safetensors file to write.
        variation: What differs from the device while tuning.
        recipe: How to train.
        batch: Samples per step.
        data: Samples, labels not needed; default: the model's shipped training samples.
        weights: Where to start from; default: the shipped weights.
        input_shape: Shape of the input without the batch, where it is not declared.
        devices: A YAML file of rows laid over the shipped ones.
        overwrite: Replace an existing file.
        narrator: Is told of every stage.

    Raises:
        UsageError: If a name is wrong, there is nothing to tune on, or the file exists.
        BuildError: If the model cannot be built.
        RunError: If the training diverges.
    """
    from ..models.weights import build_model
    from ..runtimes.optical4f.in_light import Light
    from ..runtimes.optical4f.tune import TuneRecipe, fine_tune

    say, how, differs = narrator or Silent(), recipe or TuneRecipe(), variation or Variation()
    check_free(out, "file", overwrite=overwrite)
    target = optical_device(device, devices)
    system = differs.system(system_of(target))
    spec = resolve(model, input_shape=input_shape, preprocess=None)
    if not isinstance(spec, ModelSpec):
        raise UsageError(f"expected a network with weights to train, got the ONNX file {model}")
    samples, setting = (_samples(spec, data, limit, how.seed) for limit in (None, SET_UP_SAMPLES))
    light = Light(system, differs.adjust, batch_of(target))
    module = build_model(spec, weights=weights, seed=how.seed)
    losses: list[float] = []
    name = spec.inputs[0].name
    with say.stage(f"tuning {spec.name} for {system.name}, {how.steps} steps"):
        tuned = fine_tune(
            module,
            _batches(samples, name, batch, how.seed),
            light,
            how,
            samples=_whole(setting, name),
            tell=lambda step, loss: losses.append(loss),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    state = {name: value.contiguous() for name, value in tuned.state_dict().items()}
    safetensors: Any = import_module("safetensors.torch")
    safetensors.save_file(state, partial)
    partial.replace(out)
    return Tuned(out, tuple(losses), samples.source.description)


def _samples(spec: ModelSpec, data: Path | None, limit: int | None, seed: int) -> Samples:
    if data is not None:
        return open_samples(data, spec.inputs, spec.preprocess, limit=limit, seed=seed)
    if spec.dataset:
        return shipped_samples(spec.dataset, "train", spec.inputs, spec.preprocess, limit=limit, seed=seed)
    raise UsageError(f"expected samples to tune {spec.name} on, got none; give --data with a folder or zip")


def _whole(samples: Samples, name: str) -> Tensor:
    """Give all samples at once."""
    import torch

    return torch.from_numpy(next(iter(samples.batches(samples.count)))[name])


def _batches(samples: Samples, name: str, batch: int, seed: int) -> Iterator[Tensor]:
    """Give batches of shuffled samples without end."""
    import torch

    whole = _whole(samples, name)
    generator = torch.Generator().manual_seed(seed)
    size = min(batch, samples.count)
    while True:
        order = torch.randperm(samples.count, generator=generator)
        for start in range(0, samples.count - size + 1, size):
            yield whole[order[start : start + size]]
