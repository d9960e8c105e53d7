"""The zoo by name: a decorator and a dict.

A family is a module whose import registers its models. Ours are named in ``FAMILIES``; other packages name
theirs as entry points of the group ``fourfold.models``. Families are imported at the first look-up, not
before, because they import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from ..errors import BuildError, unknown_name
from .spec import ModelSpec

FAMILIES = (
    "smt",
    "ninformer",
    "gaussian_attention",
    "conv_share_vit",
    "efficient_probing",
    "ggem",
    "minimal_transformer",
    "path_ensemble",
    "fmvit",
    "moh_vit",
    "moh_dit",
    "dynamic_perceiver",
    "m3vit",
    "rsmamba",
    "mhs_vm",
    "fatnet",
)
"""Modules of this folder that register models."""

GROUP = "fourfold.models"
"""Entry points of other packages; each names a module that registers models."""

Builder = Callable[[], ModelSpec]

_builders: dict[str, Builder] = {}


def register(builder: Builder) -> Builder:
    """Register a function without arguments that describes one model, under the function's name.

    Raises:
        BuildError: If the name is taken.
    """
    name = builder.__name__
    if name in _builders:
        modules = f"{_builders[name].__module__} and {builder.__module__}"
        message = f"expected one model named {name!r}, got it from both {modules}; rename one"
        raise BuildError(message)
    _builders[name] = builder
    return builder


def get_spec(name: str) -> ModelSpec:
    """Look a model up.

    Raises:
        UsageError: If there is none of that name; near names are suggested.
    """
    known = _known()
    if name not in known:
        raise unknown_name(kind="model", name=name, known=known)
    return known[name]()


def model_names() -> tuple[str, ...]:
    """List the names of all models, sorted."""
    return tuple(sorted(_known()))


def is_ours(name: str) -> bool:
    """Say whether a name is one of this package's own models, not of another package's and not a path."""
    known = _known()
    return name in known and known[name].__module__.startswith(f"{__package__}.")


def family_of(name: str) -> str:
    """Name the module that registers a model, without its package.

    Raises:
        UsageError: As `get_spec`.
    """
    get_spec(name)
    return _known()[name].__module__.rpartition(".")[2]


def _known() -> dict[str, Builder]:
    _import_families()
    return _builders


@cache
def _import_families() -> None:
    for family in FAMILIES:
        import_module(f".{family}", __package__)
    for point in entry_points(group=GROUP):
        _import_outside(point.name, point.value, point.load)


def _import_outside(name: str, value: str, load: Callable[[], object]) -> None:
    try:
        load()
    except BuildError:
        raise
    except Exception as error:
        message = (
            f"expected the installed models {name!r} to import, got {type(error).__name__}: {error}; "
            f"repair or uninstall the package that has {value}"
        )
        raise BuildError(message) from error
