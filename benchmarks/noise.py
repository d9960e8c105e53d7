"""Is the harness honest? One bundle against itself, and one latency measured twice, many times over.

``python benchmarks/noise.py BUNDLE... [--repeats 20] [-o benchmarks/noise.json]``

For each bundle: how often ``compare A A`` claims a difference (at most 1 in 20 may), and how often the
intervals of two measurements of the same bundle overlap.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from fourfold.harness.bench import bench
from fourfold.harness.compare import compare
from fourfold.harness.host import host, tools
from fourfold.harness.result import Interval


def against_itself(bundle: Path, repeats: int, seconds: float) -> dict[str, object]:
    """Compare a bundle with itself again and again."""
    found = [compare((bundle, bundle), seconds=seconds, seed=i)[0] for i in range(repeats)]
    return {
        "verdicts": dict(Counter(c.verdict for c in found)),
        "ratios": [round(c.ratio.value, 4) for c in found],
        "noise_floors": [round(c.noise_floor, 4) for c in found],
    }


def measured_twice(bundle: Path, repeats: int, seconds: float) -> dict[str, object]:
    """Measure a bundle again and again, and count neighbours whose intervals overlap."""
    medians = [bench((bundle,), seconds=seconds, seed=i)[0].latency.median_ms for i in range(repeats + 1)]
    return {
        "overlapping": sum(overlap(a, b) for a, b in pairwise(medians)),
        "pairs": repeats,
        "medians_ms": [[round(m.low, 4), round(m.value, 4), round(m.high, 4)] for m in medians],
    }


def overlap(a: Interval, b: Interval) -> bool:
    """Say whether two intervals share a point."""
    return a.low <= b.high and b.low <= a.high


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/noise.json"))
    options = parser.parse_args()
    machine = host()
    result: dict[str, object] = {
        "host": {"processor": machine.processor, "cores": machine.cores, "load": machine.load},
        "tools": dict(tools(("onnxruntime", "openvino", "numpy"))),
        "seconds": options.seconds,
    }
    for bundle in options.bundles:
        itself = against_itself(bundle, options.repeats, options.seconds)
        twice = measured_twice(bundle, options.repeats, options.seconds)
        print(
            f"{bundle.name}: A/A {itself['verdicts']}; overlapping {twice['overlapping']} of {twice['pairs']}"
        )
        result[bundle.name] = {"against_itself": itself, "measured_twice": twice}
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
