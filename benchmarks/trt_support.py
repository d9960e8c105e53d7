"""Which networks of the zoo TensorRT-RTX builds, in which precision: docs/tensorrt.md.

    python benchmarks/trt_support.py [MODEL ...] [--precision fp16] [--graphs out/graphs] [--page-only]

Every network is exported once, rewritten for the engine, and built for one GPU in float32, float16 and int8.
Nothing is run: a build needs no GPU, an inference does. Results are kept in trt_support.json after each
network, so that a second call goes on where the first one ended. Graphs that ``coreml_zoo.py`` has kept in
the folder ``--graphs`` are not exported again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coreml_zoo import kept
from trt_support_page import page

from fourfold.calibration.scheme import QuantScheme
from fourfold.errors import FourfoldError
from fourfold.export.artifact import Exported, Precision
from fourfold.export.passes import rewrite
from fourfold.harness.console import Console
from fourfold.harness.materials import gather
from fourfold.harness.origin import trace
from fourfold.harness.steps import in_precision, rewritten
from fourfold.models.census import census
from fourfold.models.registry import get_spec, model_names
from fourfold.models.spec import ModelSpec
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.trt.facts import read_facts

HERE = Path(__file__).parent
RESULTS = HERE / "trt_support.json"
PAGE = HERE.parent / "docs" / "tensorrt.md"

EMPTY: dict[str, Any] = {"networks": {}}

DEVICE = "rtx-4090"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FULL_SIZE = (
    *("ep_s", "gaussian_block", "ggem_b", "ninformer", "smt_t", "rsmamba_b", "perceiver_reg800m"),
    *("m3vit_small_pascal", "moh_dit_s_75", "moh_vit_s_80"),
)
"""Networks of published size, from small to large; the other ones are all small networks."""
CALIBRATION = QuantScheme(max_samples=8, batch=2)
"""Enough for ranges that build; accuracy is not looked at here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", help="names of the zoo; default: all small ones, and some of published size"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", help="leave the results of the others as they are"
    )
    parser.add_argument("--graphs", type=Path, help="folder of exported graphs")
    parser.add_argument("--page-only", action="store_true", help="write the page from the results there are")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else EMPTY
    networks = results["networks"]
    for name in () if options.page_only else options.models or chosen():
        if name not in networks or options.models:
            asked: Sequence[Precision] = options.precision or PRECISIONS
            others = {k: v for k, v in networks.get(name, {}).items() if k in PRECISIONS and k not in asked}
            networks[name] = others | tried(name, asked, options.graphs)
            results["networks"] = dict(sorted(networks.items()))
            keep(results)
    for name, row in networks.items():
        row["params"] = census(get_spec(name)).parameters
    keep(results)
    PAGE.write_text(page(results, get_device(DEVICE), PRECISIONS))


def keep(results: dict[str, Any]) -> None:
    """Write what is known so far."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def chosen() -> list[str]:
    """Name every small network, and some of published size."""
    return [*(name for name in model_names() if "nano" in name), *FULL_SIZE]


def tried(name: str, precisions: Sequence[Precision], graphs: Path | None) -> dict[str, Any]:
    """Build one network in these precisions."""
    spec, console = get_spec(name), Console()
    console.note(f"== {name}")
    runtime = get_runtime("trt")
    facts: dict[str, Any] = {"paper": spec.paper}
    try:
        if graphs is not None and (graphs / f"{name}.npz").exists():
            exported = rewrite(kept(name, graphs), runtime.passes, evaluate=evaluate)
        else:
            origin = trace(spec, runtime, weights=None, seed=0, narrator=console)
            exported = rewritten(origin, runtime, materials(spec, "fp32"), seed=0, narrator=console)
    except FourfoldError as error:
        return facts | {"reason": str(error)}
    facts["nodes"] = exported.model.graph.num_nodes()
    return facts | {precision: attempt(exported, spec, precision, console) for precision in precisions}


def attempt(exported: Exported, spec: ModelSpec, precision: Precision, console: Console) -> dict[str, Any]:
    """Build in one precision: what was built, or why not."""
    runtime, device = get_runtime("trt"), get_device(DEVICE)
    try:
        graph = in_precision(
            exported, precision, materials(spec, precision), runtime, device, narrator=console
        )
        with tempfile.TemporaryDirectory() as folder, console.stage(f"building in {precision}"):
            start = time.perf_counter()
            facts = read_facts(runtime.compile(graph, device, Path(folder)))
    except FourfoldError as error:
        console.note(str(error))
        return {"reason": str(error)}
    shares: dict[str, int] = {}
    for layer in facts.layers:
        shares[layer.precision] = shares.get(layer.precision, 0) + 1
    return {
        "bytes": facts.size,
        "seconds": round(time.perf_counter() - start, 1),
        "layers": shares,
        "version": facts.version,
    }


def materials(spec: ModelSpec, precision: Precision) -> Any:
    made = gather(
        spec,
        spec.inputs,
        precision,
        data=None,
        eval_data=None,
        synthetic=spec.dataset is None,
        scheme=CALIBRATION,
        seed=0,
    )
    return replace(made, evaluation=None)


if __name__ == "__main__":
    main()
