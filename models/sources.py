"""Where a model comes from: the zoo, a user's factory, timm, or an ONNX file.

Naming a factory runs the user's own code; nothing else here runs code that the package does not bring.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BuildError, UsageError
from .registry import get_spec
from .spec import ModelSpec, Preprocess, TensorSpec

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm/"

_FACTORY = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_][\w.]*)")


@dataclass(frozen=True)
class OnnxFile:
    """A network that arrives as an ONNX graph."""

    name: str
    path: Path
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    """Sizes of the one input without the batch, where the file leaves them free."""


def resolve(
    model: str, *, input_shape: Sequence[int] | None = None, preprocess: Preprocess | None = None
) -> ModelSpec | OnnxFile:
    """Find out what a user means by a model.

    Args:
        model: A zoo name, ``pkg.module:factory``, ``timm/NAME``, or the path of a ``.onnx`` file.
        input_shape: Shape of the input without the batch; a factory needs it, an ONNX file where it leaves
            sizes free, others have one of their own.
        preprocess: Replaces what the model declares.

    Raises:
        UsageError: If there is no such model, or the shape is missing or does not fit.
        BuildError: If the user's module fails while it is imported.
        UnavailableError: If timm is asked for and not installed.
    """
    shape = None if input_shape is None else _checked(input_shape)
    if model.lower().endswith(".onnx"):
        return _onnx_file(Path(model), shape, preprocess)
    spec = _spec(model, shape)
    return spec if preprocess is None else replace(spec, preprocess=preprocess)


def _spec(model: str, shape: tuple[int, ...] | None) -> ModelSpec:
    if model.startswith(TIMM):
        from .timm_models import timm_spec

        spec = timm_spec(model.removeprefix(TIMM), shape)
        return replace(spec, name=_safe(model))
    if found := _FACTORY.fullmatch(model):
        return _factory_spec(model, found["module"], found["attribute"], shape)
    spec = get_spec(model)
    return spec if shape is None else _reshaped(spec, shape)


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    if not shape or any(side < 1 for side in shape):
        message = (
            f"expected a shape of positive sizes such as 3,224,224 without the batch, got {tuple(shape)}"
        )
        raise UsageError(message)
    return tuple(shape)


def _safe(name: str) -> str:
    """Make a name that can be a folder's name everywhere."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"


def _onnx_file(path: Path, shape: tuple[int, ...] | None, preprocess: Preprocess | None) -> OnnxFile:
    if not path.is_file():
        message = f"expected an ONNX file, got {str(path)!r}, which is none; check the path"
        raise UsageError(message)
    return OnnxFile(_safe(path.stem), path, preprocess, input_shape=shape)


def _reshaped(spec: ModelSpec, shape: tuple[int, ...]) -> ModelSpec:
    """Let a network of the zoo take pictures of another height and width."""
    first, *more = spec.inputs
    declared = first.shape[1:]
    if more or len(declared) != 3 or len(shape) != 3 or shape[:1] != declared[:1]:
        message = f"expected an input shape like {declared} for {spec.name}, got {shape}; keep the channels"
        raise UsageError(message)
    size = (shape[1], shape[2])
    preprocess = None if spec.preprocess is None else replace(spec.preprocess, size=size)
    return replace(spec, inputs=(replace(first, shape=("batch", *shape)),), preprocess=preprocess)


def _factory_spec(model: str, module: str, attribute: str, shape: tuple[int, ...] | None) -> ModelSpec:
    if shape is None:
        message = f"expected the input shape of {model}, got none; give it without the batch, like 3,224,224"
        raise UsageError(message)
    factory = _factory(model, module, attribute)
    return ModelSpec(
        name=_safe(attribute),
        build=lambda: _made(model, factory),
        inputs=(TensorSpec("input", ("batch", *shape)),),
        outputs=("output",),
        checked="not checked; the user's own code",
        untrained=False,
    )


def _factory(model: str, module: str, attribute: str) -> Callable[[], object]:
    found: object = _imported(model, module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        message = (
            f"expected a function {attribute!r} in {module}, got {type(found).__name__}; check {model!r}"
        )
        raise UsageError(message)
    return found


def _imported(model: str, module: str) -> object:
    try:
        with _working_folder_first():
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            message = f"expected a module {module!r} here or installed, got none; check {model!r}"
            raise UsageError(message) from error
        raise _raised(f"importing {module}", error) from error
    except (Exception, SystemExit) as error:
        raise _raised(f"importing {module}", error) from error


def _made(model: str, factory: Callable[[], object]) -> nn.Module:
    from torch import nn

    if isinstance(factory, nn.Module):
        message = (
            f"expected {model} to be a function that makes a network, got a network; wrap it in a function"
        )
        raise BuildError(message)
    try:
        with _working_folder_first():
            made = factory()
    except (Exception, SystemExit) as error:
        raise _raised(f"calling {model}", error) from error
    if not isinstance(made, nn.Module):
        message = (
            f"expected {model} to return a torch.nn.Module, got {type(made).__name__}; return the network"
        )
        raise BuildError(message)
    return made


def _raised(doing: str, error: BaseException) -> BuildError:
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return BuildError(f"expected {doing} to succeed, got {said}; mend that code")


@contextmanager
def _working_folder_first() -> Generator[None]:
    """Import from the working folder, as ``python`` does, only while the user's code loads."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
