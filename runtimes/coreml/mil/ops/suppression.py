"""Non-maximum suppression: of boxes that overlap much, the one with the best score stays.

Axis letters: B batch, N boxes, K classes, M boxes kept. A box is centre and size: across, down, width,
height.
"""

from __future__ import annotations

import torch
from torch import Tensor


def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> tuple[Tensor, ...]:
    """Keep at most M boxes of (B, N, 4) by scores (B, N, K).

    From iOS17 on, which is where no score threshold is given, the number of boxes is the last axis.

    Returns:
        Boxes, scores and indices of those kept, padded by boxes and scores of zero and indices of -1, and
        before iOS17 how many there are.
    """
    last = score_threshold is None
    rows, points = (boxes.mT, scores.mT) if last else (boxes, scores)
    kept = [
        _keep(b, s, iou_threshold, score_threshold, max_boxes, by_class=per_class_suppression)
        for b, s in zip(rows, points, strict=True)
    ]
    indices = torch.full((len(kept), max_boxes), -1, dtype=torch.int32)
    for i, places in enumerate(kept):
        indices[i, : len(places)] = places
    valid = (indices >= 0).unsqueeze(-1)
    wanted = indices.clamp(min=0).long().unsqueeze(-1)
    chosen_boxes = torch.where(valid, torch.take_along_dim(rows, wanted, 1), torch.zeros(()))
    chosen_scores = torch.where(valid, torch.take_along_dim(points, wanted, 1), torch.zeros(()))
    if last:
        return chosen_boxes.mT, chosen_scores.mT, indices
    return chosen_boxes, chosen_scores, indices, valid.sum((1, 2))


def _keep(
    boxes: Tensor, scores: Tensor, most: float, least: float | None, count: int, *, by_class: bool
) -> Tensor:
    best, kind = scores.max(-1)
    kept: list[int] = []
    for i in map(int, best.argsort(descending=True, stable=True)):
        if len(kept) == count or (least is not None and best[i] < least):
            break
        rivals = [k for k in kept if not by_class or kind[k] == kind[i]]
        if not rivals or float(_overlap(boxes[i], boxes[rivals]).max()) <= most:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int32)


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Give the shares of the union of a box (4,) and others (N, 4) that both cover."""
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    lows, highs = others[:, :2] - others[:, 2:] / 2, others[:, :2] + others[:, 2:] / 2
    both = (torch.minimum(high, highs) - torch.maximum(low, lows)).clamp(min=0).prod(-1)
    union = box[2:].prod() + others[:, 2:].prod(-1) - both
    return torch.where(union > 0, both / union, torch.zeros(()))
