"""How long the reference evaluator of MIL takes beside torch on the same network.

    python -m benchmarks.mil_evaluator [--blocks 12] [--rounds 15]

A vision transformer of ViT-S's size (384 features, 6 heads, 196 tokens) is written as a MIL program, saved
as a package in fp16, and evaluated in float32 and as written. The same layers run in torch. Calls take
turns, so that a busy machine slows all of them; ratios are of medians of processor time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fourfold.export.quiet import quiet
from fourfold.runtimes.coreml.mil.program import load_program

D, TOKENS, HEADS = 384, 196, 6
Weights = dict[str, np.ndarray]


def weights_of(blocks: int) -> list[Weights]:
    """Draw the weights of every block."""
    rng = np.random.default_rng(0)
    shapes = {"qkv": (3 * D, D), "out": (D, D), "up": (4 * D, D), "down": (D, 4 * D)}
    return [
        {name: (0.02 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(blocks)
    ]


def save(blocks: list[Weights], path: Path) -> None:
    """Write the network as a package."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, TOKENS, D))], opset_version=ct.target.iOS17)
        def net(x: Any) -> Any:
            for w in blocks:
                qkv = mb.linear(x=mb.layer_norm(x=x, axes=[-1]), weight=w["qkv"])
                heads = mb.transpose(
                    x=mb.reshape(x=qkv, shape=[TOKENS, 3, HEADS, D // HEADS]), perm=[1, 2, 0, 3]
                )
                q, k, v = mb.split(x=heads, num_splits=3, axis=0)
                scores = mb.softmax(x=mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=0.125))
                mixed = mb.transpose(x=mb.matmul(x=scores, y=v), perm=[0, 2, 1, 3])
                x = mb.add(x=x, y=mb.linear(x=mb.reshape(x=mixed, shape=[1, TOKENS, D]), weight=w["out"]))
                up = mb.gelu(x=mb.linear(x=mb.layer_norm(x=x, axes=[-1]), weight=w["up"]))
                x = mb.add(x=x, y=mb.linear(x=up, weight=w["down"]))
            return mb.identity(x=x, name="y")

        ct.convert(net, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17).save(str(path))


def in_torch(blocks: list[Weights]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give the same network in torch."""
    held = [{name: torch.from_numpy(array) for name, array in w.items()} for w in blocks]

    def run(x: torch.Tensor) -> torch.Tensor:
        for w in held:
            qkv = F.linear(F.layer_norm(x, (D,)), w["qkv"])
            q, k, v = qkv.reshape(TOKENS, 3, HEADS, D // HEADS).permute(1, 2, 0, 3).unbind(0)
            mixed = ((q @ k.mT) * 0.125).softmax(-1) @ v
            x = x + F.linear(mixed.transpose(0, 1).reshape(1, TOKENS, D), w["out"])
            x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (D,)), w["up"])), w["down"])
        return x

    return run


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    blocks = weights_of(chosen.blocks)
    x = np.random.default_rng(1).normal(size=(1, TOKENS, D)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "net.mlpackage"
        save(blocks, path)
        program, net = load_program(path), in_torch(blocks)
        calls: dict[str, Callable[[], object]] = {
            "torch": lambda: net(torch.from_numpy(x)),
            "evaluator, fp32": lambda: program.run({"x": x}, rounding="fp32"),
            "evaluator, as written": lambda: program.run({"x": x}),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(chosen.rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                call()
                times[name].append(1e3 * (time.process_time() - start))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    for name, median in medians.items():
        print(f"{name:22} {median:8.1f} ms  {median / medians['torch']:.2f} x torch")


if __name__ == "__main__":
    main()
