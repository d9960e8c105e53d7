"""The card of a network: what a user says of it, and what the zoo knows of its own."""

from __future__ import annotations

from dataclasses import replace

from ..models.registry import is_ours
from ..models.sources import OnnxFile
from ..models.spec import Card, ModelSpec

AUTHOR, LICENCE = "the fourfold authors", "Apache-2.0"
"""Of networks and weights that come with this package."""


def card_of(
    model: str, source: ModelSpec | OnnxFile, form: str, given: Card | None, *, own_weights: bool
) -> Card:
    """Fill in what the user left open.

    Args:
        model: What was typed.
        source: What it was found to be.
        form: Precision and form of the weights.
        given: What the user says.
        own_weights: True where the user brings trained weights, whose licence only the user knows.
    """
    card = given or Card()
    paper = source.paper if isinstance(source, ModelSpec) else ""
    described = f"{source.name} in {form}" + (f": {paper}" if paper else "")
    card = replace(card, description=card.description or described)
    if own_weights or not is_ours(model):
        return card
    return replace(card, author=card.author or AUTHOR, licence=card.licence or LICENCE)
