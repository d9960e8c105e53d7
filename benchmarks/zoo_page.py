"""Write docs/zoo.md: every network of the zoo, counted and swept.

    python benchmarks/zoo_page.py

Records that ``make test-zoo`` left in out/zoo are taken into harness/swept.json first.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from fourfold.harness.swept import RECORDS, keep, swept
from fourfold.harness.zoo import Entry, dynamic, exports, giga, zoo
from fourfold.models.registry import FAMILIES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "zoo.md"
FOUND = ROOT / "out" / "zoo"

HEAD = """# The zoo

Written by `make zoo-table`; `make zoo-check` compares it with the code, `fourfold models --table` prints it.

* *parameters* and *multiply-adds* are counted on torch's meta device, of the network as it is trained, on one
  sample: convolutions and matrix products, those of attention between tokens included, half of what torch's
  `FlopCounterMode` counts. Element-wise work and selective scans count nothing.
* *exports*: engines whose answers `make test-zoo` compared with torch's, at the size given, on random inputs
  and weights, and the largest error relative to the largest answer. A model without a record was built and
  counted only.
* *dynamic parts*: operators of the exported graph whose work or whose addresses depend on values.
* Below each table: the kinds of modules with a deploy form of their own, and what it does. A convolution
  before a batch norm folds in every network.
"""


def page(entries: Iterable[Entry]) -> str:
    """Write the page: one section per family, in the order of the registry."""
    ordered = sorted(entries, key=lambda e: (FAMILIES.index(e.family), e.size.parameters, e.spec.name))
    lines = [HEAD]
    for family, members in groupby(ordered, key=lambda e: e.family):
        lines += [*_section(family, list(members)), ""]
    return "\n".join(lines)


def _section(family: str, members: list[Entry]) -> Iterator[str]:
    module = importlib.import_module(f"fourfold.models.{family}")
    title = (inspect.getdoc(module) or "").split("\n")[0]
    yield f"## {family}"
    yield ""
    yield title
    yield ""
    yield "| model | parameters | multiply-adds | input | weights | checked | exports | dynamic parts |"
    yield "| --- | ---: | ---: | --- | --- | --- | --- | --- |"
    yield from map(_row, members)
    yield ""
    folds = dict(fold for entry in members for fold in entry.size.folds)
    yield from (f"* `{kind}`: {what}" for kind, what in folds.items())
    yield from (f"* {paper}" for paper in sorted({entry.spec.paper for entry in members}))


def _row(entry: Entry) -> str:
    spec = entry.spec
    inputs = " ".join("x".join(map(str, i.shape[1:])) or "1" for i in spec.inputs)
    cells = (
        f"`{spec.name}`",
        f"{entry.size.parameters:,}",
        giga(entry.size.macs),
        inputs,
        "trained" if spec.weights else "random",
        spec.checked,
        exports(entry.found),
        dynamic(entry.found),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Take new records in, and write the page."""
    for path in sorted(FOUND.glob("*.json")):
        keep(swept(path), RECORDS)
    PAGE.write_text(page(zoo()), encoding="utf-8")


if __name__ == "__main__":
    main()
