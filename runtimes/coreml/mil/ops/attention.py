"""Scaled dot product attention.

Axis letters: B batch (any number of axes), L queries, S keys, E features, V features of values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """Give softmax(Q K^T / sqrt(E) + mask) V for (B, L, E), (B, S, E), (B, S, V).

    A mask of truth values keeps what is true.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value
