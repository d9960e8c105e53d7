"""What every verb of the command line shares: its common options, and how its answer is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import Console

if TYPE_CHECKING:
    from .answers import Answer

Decorate = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)
BUNDLES = click.argument("bundles", nargs=-1, required=True, type=PATH)
DEVICES = click.option("--devices", type=PATH, help="YAML rows laid over the shipped devices.")
SEED = click.option("--seed", default=0, show_default=True, help="Of everything drawn at random.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what exists.")
_OUTPUT: tuple[Decorate, ...] = (
    click.option("--json", "as_json", is_flag=True, help="One document on stdout; logs stay on stderr."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and the answer."),
    click.option("-v", "--verbose", is_flag=True, help="Show where an unexpected error happened."),
)


def seconds_option(default: float) -> Decorate:
    """Give the option of how long to time at least."""
    return click.option(
        "--seconds",
        type=click.FloatRange(min=0.1),
        default=default,
        show_default=True,
        help="Least duration of a timing.",
    )


def verb(group: click.Group, *parameters: Decorate) -> Callable[[Callable[..., Answer]], None]:
    """Register a function as the verb of its name in a group, with these parameters and the common ones."""

    def register(function: Callable[..., Answer]) -> None:
        def run(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
            answer = function(Console(quiet=quiet), **options)
            click.echo(answer.json() if as_json else answer.text)
            raise SystemExit(answer.exit_code)

        for decorate in reversed((*parameters, *_OUTPUT)):
            run = decorate(run)
        group.command(function.__name__, help=function.__doc__)(run)

    return register
