"""Do heads that a token does not select cost nothing? Deploy forms with and without skipping, interleaved.

``python benchmarks/head_skipping.py [--seconds 2] [CASE...]``

A case is a whole small network, or one attention layer of a published size. Weights are random, so that
tokens select their heads evenly. Both forms are folded from the same weights, exported, rewritten and run by
ONNX Runtime on one thread; their answers are compared before anything is timed. What is timed is processor
time, so that other programs on the machine count for nothing.

Printed too: of the routed heads of all layers, how many are selected by no token of a picture. Only those
could be left out for a whole picture at once, without sorting tokens.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fourfold.export.artifact import Feed
from fourfold.export.parity import fresh_inputs, parity, require
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.to_onnx import to_onnx
from fourfold.harness.paired import compare_openings
from fourfold.models import moh_dit, moh_vit
from fourfold.models.fusible import Fusible
from fourfold.models.moh_dit_blocks import Attention
from fourfold.models.moh_vit_blocks import GlobalAttention, LocalAttention
from fourfold.models.routing import JointGate, Selection
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import runtime_for
from fourfold.runtimes.reference import evaluate

DEVICE = "cpu-ort"
PICTURES = 8
"""In which idle heads are counted."""


@dataclass(frozen=True)
class Case:
    """One module in two deploy forms."""

    about: str
    build: Callable[[bool], nn.Module]
    """Make the trained form; the argument chooses the deploy form that skips."""
    shape: tuple[int, ...]
    """Of its input, without the batch."""


def _vit_layer(stage: int) -> Callable[[bool], nn.Module]:
    kind = GlobalAttention if stage == 3 else LocalAttention
    return lambda skip: kind(replace(moh_vit.B_50, skip=skip), stage)


def _dit_layer(skip: bool) -> nn.Module:
    return Attention(replace(moh_dit.XL_75, skip=skip), len(moh_dit.XL_75.heads) - 1)


CASES = {
    "nano": Case(
        "moh_vit_nano, the whole network",
        lambda skip: moh_vit.MohVit(replace(moh_vit.NANO, skip=skip)),
        (1, 28, 28),
    ),
    "vit-stage3": Case("MoH-ViT-B-50, one attention of stage 3", _vit_layer(2), (196, 384)),
    "vit-stage4": Case("MoH-ViT-B-50, one attention of stage 4", _vit_layer(3), (49, 768)),
    "dit": Case("MoH-DiT-XL/2-75, one attention of the last nine layers", _dit_layer, (256, 1152)),
}


class Form:
    """One deploy form, compiled."""

    def __init__(self, case: Case, skip: bool, folder: Path) -> None:
        self.device = get_device(DEVICE)
        self.runtime = runtime_for(self.device)
        spec = (TensorSpec("x", ("batch", *case.shape)),)
        self.feed = fresh_inputs(spec, batch=1, seed=1)
        torch.manual_seed(0)
        trained = case.build(skip).eval()
        assert isinstance(trained, Fusible)
        folded = trained.fused().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            folded(torch.from_numpy(self.feed["x"]))
        self.multiplications = counter.get_total_flops() // 2
        exported = to_onnx(folded, "form", spec, ("y",), opset=20, evaluate=evaluate)
        folder.mkdir()
        final = rewrite(exported, COMMON + self.runtime.passes, evaluate=evaluate)
        self.file = self.runtime.compile(final, self.device, folder)

    @contextmanager
    def open(self) -> Generator[Callable[[], Feed]]:
        """Open the form and give one inference."""
        with self.runtime.open(self.file, self.device) as session:
            yield lambda: session.run(self.feed)

    def answer(self) -> Feed:
        """Run once."""
        with self.open() as call:
            return call()


def idle_heads(case: Case) -> str:
    """Count routed heads that no token selects, over layers and the pictures of a batch."""
    torch.manual_seed(0)
    folded = case.build(False).eval().fused().eval()
    used: list[tuple[int, int]] = []

    def look(gate: nn.Module, _: object, selection: Selection) -> None:
        assert isinstance(gate, JointGate)
        if selection.chosen is not None:
            used.extend((len(chosen.unique()), gate.plan.routed) for chosen in selection.chosen)

    for module in folded.modules():
        if isinstance(module, JointGate):
            module.register_forward_hook(look)
    with torch.no_grad():
        folded(torch.randn(PICTURES, *case.shape))
    return f"{sum(r - u for u, r in used)} of {sum(r for _, r in used)}"


def measured(case: Case, folder: Path, seconds: float) -> str:
    """Compare the answers of both forms, then say how much of the dense form's time skipping takes."""
    dense, skipping = (Form(case, skip, folder / str(skip)) for skip in (False, True))
    names = ("dense", "skipping")
    answers = parity("fp32", dense.answer(), skipping.answer(), names=names, batch=1)
    require((answers,), case.about)
    found = compare_openings(
        dense.open, skipping.open, labels=names, min_seconds=seconds, clock=time.process_time_ns
    )
    less, (before, after) = skipping.multiplications / dense.multiplications, found.medians_ms
    return (
        f"{case.about}: {found.ratio.value:.3f} [{found.ratio.low:.3f}, {found.ratio.high:.3f}] of the dense "
        f"form's time ({before:.3f} and {after:.3f} ms), {less:.3f} of its multiplications, "
        f"answers {answers.relative:.1e} apart, {idle_heads(case)} routed heads idle in a picture"
    )


def main() -> None:
    """Measure and print, one line per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all without")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(measured(CASES[name], Path(folder), options.seconds), flush=True)


if __name__ == "__main__":
    main()
