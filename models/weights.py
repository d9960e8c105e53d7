"""Trained weights: read without running anything, checked against the module, loaded whole or not at all."""

from __future__ import annotations

import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import BuildError, UsageError
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("model", "state_dict")
"""Keys under which training scripts keep the state dict."""

RENAMINGS: tuple[Callable[[str], str], ...] = (
    lambda key: key,
    lambda key: key.removeprefix("module."),  # saved from a data-parallel wrapper
    lambda key: f"model.{key}",  # loaded into a wrapper of ours
)
"""Ways in which the keys of a checkpoint may be meant, in the order they are tried."""


_DEEPEST = 3
"""How far weights are nested in a training script's file."""


def build_model(spec: ModelSpec, *, weights: Path | None = None, seed: int = 0) -> nn.Module:
    """Build a model in evaluation mode, the same one for the same arguments.

    Args:
        spec: What to build.
        weights: A file of trained weights; None takes the shipped ones, if there are any.
        seed: Of the random weights of a model without trained ones.

    Raises:
        UsageError: If ``weights`` is no file.
        BuildError: If the builder fails or the weights do not fit.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = spec.build()
    path = weights or shipped_weights(spec)
    if path is not None:
        load_weights(module, path)
    return module.eval()


def shipped_weights(spec: ModelSpec) -> Path | None:
    """Find the weights that come with the package, or None.

    Another package's model names its own weights by an absolute path.
    """
    return Path(__file__).with_name("trained") / spec.weights if spec.weights else None


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a ``.safetensors`` file or a file of ``torch.save`` into a module.

    The state dict may be wrapped as ``{"model": ...}`` or ``{"state_dict": ...}``. A file that also holds
    other weights of the same names, as averages of a training are, is refused: which are meant is not ours
    to guess. Nothing in the file is executed.

    Raises:
        UsageError: If there is no such file.
        BuildError: If the file is damaged, is no state dict, wants to run code, holds two sets of weights, or
            does not fit the module.
    """
    content = _read(path)
    wanted = module.state_dict()
    renamed = _renamed(_unwrapped(content, path), wanted)
    _check_single(renamed, content, path)
    _check_names(renamed, wanted, path)
    _check_shapes(renamed, wanted, path)
    module.load_state_dict(renamed)


def _read(path: Path) -> object:
    if not path.is_file():
        message = f"expected a file of weights, got {str(path)!r}, which is none; check the path"
        raise UsageError(message)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> object:
    import torch

    try:
        # Training scripts keep their arguments beside the weights; a Namespace holds values and does nothing.
        with warnings.catch_warnings(), torch.serialization.safe_globals([Namespace]):
            # Such files load or fail like others; the hint is meant for torch's developers.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names what the pickle would have called, and only then.
        called = re.search(r"GLOBAL (\S+)", str(error))
        if called is None:
            raise _damaged(path, "it is no pickle of plain tensors") from error
        message = (
            f"expected tensors and nothing else, got {path.name}, which wants to run {called[1]} when read; "
            "save its state dict as .safetensors where you trust it"
        )
        raise BuildError(message) from error
    except Exception as error:  # torch.load reports damage by many types, down to KeyError
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> BuildError:
    line = (str(reason).splitlines() or [type(reason).__name__])[0]
    return BuildError(
        f"expected readable weights, got {path.name}, which is damaged ({line}); fetch it again"
    )


def _unwrapped(state: object, path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    got = type(state).__name__
    if isinstance(state, Mapping):
        mapping = cast("Mapping[object, object]", state)
        for key in WRAPPERS:
            if isinstance(mapping.get(key), Mapping):
                return _unwrapped(mapping[key], path)
        if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in mapping.items()):
            return dict(cast("Mapping[str, Tensor]", mapping))
    message = (
        f"expected tensors by name, got {got} with other content in {path.name}; save module.state_dict()"
    )
    raise BuildError(message)


def _renamed(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Rename the keys in the way that fits the module best."""
    ways = [{rename(key): value for key, value in state.items()} for rename in RENAMINGS]
    return max(ways, key=lambda way: len(way.keys() & set(wanted)))


def _check_single(chosen: Mapping[str, Tensor], content: object, path: Path) -> None:
    """Refuse a file that holds further weights under the chosen names, unless they are the same."""
    sets = {key: _renamed(state, chosen) for key, state in _state_dicts(content).items()}
    alike = {key: state for key, state in sets.items() if state.keys() == chosen.keys()}
    if any(not _equal(state, chosen) for state in alike.values()):
        message = (
            f"expected one set of weights in {path.name}, got {len(alike)} that differ, under "
            f"{' and '.join(map(repr, alike))}; save the one that is meant in a file of its own"
        )
        raise BuildError(message)


def _state_dicts(content: object, name: str = "", depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """List all tensors by name in nested mappings, by where they are."""
    from torch import Tensor

    # A pickle may hold itself.
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return {}
    mapping = cast("Mapping[object, object]", content)
    if mapping and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in mapping.items()):
        return {name: dict(cast("Mapping[str, Tensor]", mapping))}
    parts = ((f"{name}.{key}" if name else str(key), value) for key, value in mapping.items())
    inner = (_state_dicts(value, part, depth + 1) for part, value in parts)
    return {key: state for found in inner for key, state in found.items()}


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(v.shape == other[k].shape and bool((v == other[k]).all()) for k, v in one.items())


def _check_names(state: Collection[str], wanted: Collection[str], path: Path) -> None:
    missing, extra = [k for k in wanted if k not in state], [k for k in state if k not in wanted]
    if missing or extra:
        found = [
            f"{len(keys)} {what} ({_some(keys)})"
            for what, keys in (("missing", missing), ("unknown", extra))
            if keys
        ]
        message = (
            f"expected the {len(wanted)} tensors of the model in {path.name}, got {' and '.join(found)}; "
            "is it another model's file?"
        )
        raise BuildError(message)


def _check_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if state[key].shape != value.shape
    ]
    if wrong:
        message = (
            f"expected the model's shapes in {path.name}, got {len(wrong)} others ({_some(wrong)}); "
            "is it another size's file?"
        )
        raise BuildError(message)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
