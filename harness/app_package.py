"""A step of the walk: the form that an app wants, which must answer a picture as the network does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array, Exported, Feed, Golden, Precision, Run, Step
from ..export.parity import Parity, parity, require
from ..models.labels import check_unique
from ..models.preprocess import pixels_of, prepare
from ..models.spec import Preprocess, TensorSpec
from ..runtimes.device import Device
from ..runtimes.runtime import Ask, Compresses, MakesApps, Runtime
from .batches import in_batches
from .console import Narrator
from .result import APP_PACKAGE

_LABEL = "class label"


def check_packable(
    runtime: Runtime,
    model: str,
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
    labels: Sequence[str],
) -> None:
    """Refuse, before any work, an app that cannot be made.

    Raises:
        UsageError: If the engine makes none, nothing says how pictures become the network's input, or two
            classes have one label.
    """
    check_unique(labels)
    if not isinstance(runtime, MakesApps):
        raise UsageError(f"expected an engine that makes packages for apps, got {runtime.name}; leave it out")
    if preprocess is None:
        raise UsageError(
            f"expected to know how pictures become the input of {model}, got nothing; give --mean, --std or "
            "--resize"
        )
    if len(inputs) != 1:
        raise UsageError(f"expected a network with one picture as input for an app, got {len(inputs)} inputs")
    preprocess.fitted(inputs[0])


def with_app(
    exported: Exported,
    compiled: Path,
    runtime: Runtime,
    device: Device,
    preprocess: Preprocess,
    labels: Sequence[str],
    out: Path,
    *,
    narrator: Narrator,
) -> tuple[Exported, Path]:
    """Make the package for an app in the new folder ``out``; the step goes into the history.

    Raises:
        UsageError: If the labels do not fit the network.
        BuildError: If the engine refuses it.
        VerdictError: If it does not answer as the compiled network.
    """
    assert isinstance(runtime, MakesApps), "checked before any work"
    started = time.perf_counter()
    out.mkdir()
    with narrator.stage("making the package for an app"):
        app = _made(_answer_first(exported), runtime, device, preprocess, labels, out)
        with runtime.open(compiled, device) as session:
            run, ask = in_batches(session.run, exported.inputs, device), runtime.open_app(app, device)
            checked = against_network(
                ask, run, exported.golden, exported.inputs[0], exported.precision, preprocess, labels
            )
    require((checked,), APP_PACKAGE)
    fitted = preprocess.fitted(exported.inputs[0])
    height, width = fitted.size or (0, 0)
    classes = f"a label of {len(labels)} and their probabilities" if labels else "the network's outputs"
    colours = "grey" if fitted.mode == "L" else "colour"
    detail = f"{app.name} takes a {colours} picture of {width} by {height} pixels and gives {classes}"
    step = Step(APP_PACKAGE, detail, 0, None, time.perf_counter() - started, (), (checked,))
    return exported.after(step, exported.model), app


def _answer_first(exported: Exported) -> Exported:
    """Order the outputs so that the one that is labelled comes first."""
    places = sorted(range(len(exported.outputs)), key=lambda i: i != exported.answering)
    model = exported.model.clone()
    values = tuple(model.graph.outputs)
    model.graph.outputs[:] = [values[i] for i in places]
    return replace(exported, model=model, outputs=tuple(exported.outputs[i] for i in places))


def _made(
    exported: Exported,
    runtime: MakesApps,
    device: Device,
    preprocess: Preprocess,
    labels: Sequence[str],
    out: Path,
) -> Path:
    """Make it, with weights as small as those of the compiled network."""
    if exported.compression is None:
        return runtime.make_app(exported, device, preprocess, labels, out)
    assert isinstance(runtime, Compresses), "the compiled network was compressed"
    with TemporaryDirectory(dir=out.parent) as plain:
        whole = runtime.make_app(exported, device, preprocess, labels, Path(plain))
        return runtime.compress(whole, device, exported.compression, out).path


def against_network(
    ask: Ask,
    run: Run,
    golden: Golden,
    spec: TensorSpec,
    precision: Precision,
    preprocess: Preprocess,
    labels: Sequence[str],
) -> Parity:
    """Ask both about the golden inputs as pictures; a label must be that of the largest probability.

    Args:
        ask: The package for an app.
        run: One inference of the compiled network.
        golden: Gives the pictures.
        spec: The network's input.
        precision: Of the network.
        preprocess: How pictures become its input.
        labels: Names of the classes; none where it does not classify.
    """
    fitted = preprocess.fitted(spec)
    pictures = [pixels_of(row, fitted) for row in golden.inputs[spec.name]]
    rows = [_pair(ask, run, pixels, spec, fitted, labels) for pixels in pictures]
    expected, found = (
        {name: np.concatenate([row[side][name] for row in rows]) for name in rows[0][side]} for side in (0, 1)
    )
    kind = "int8-engine" if precision == "int8" else precision
    return parity(kind, expected, found, names=("compiled", APP_PACKAGE), batch=len(rows))


def _pair(
    ask: Ask,
    run: Run,
    pixels: Array,
    spec: TensorSpec,
    preprocess: Preprocess,
    labels: Sequence[str],
) -> tuple[Feed, Feed]:
    answers = dict(run({spec.name: prepare(pixels, preprocess)[None]}))
    asked = ask(pixels)
    found = dict(asked.outputs)
    if labels:
        first = next(iter(found))
        answers[first] = _softmax(answers[first])
        answers[_LABEL] = found[first].argmax(-1)
        found[_LABEL] = np.array([list(labels).index(asked.label) if asked.label in labels else -1])
    return answers, found


def _softmax(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
