"""Where a walk starts: the source as one ONNX graph, and the source itself to be checked against."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import UsageError
from ..export.artifact import Exported, Run, Step
from ..export.parity import fresh_inputs
from ..models.labels import check_count
from ..models.sources import OnnxFile
from ..models.spec import ModelSpec, Preprocess, TensorSpec
from ..runtimes.reference import evaluate
from ..runtimes.runtime import Runtime
from .console import Narrator


@dataclass(frozen=True)
class Origin:
    """A source model in two forms: the graph that will be changed, and the truth that will not."""

    exported: Exported
    reference: Run
    """The model as it came: the unfolded torch module, or the user's graph as written."""
    reference_name: str
    facts: Mapping[str, str]
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def trace(
    source: ModelSpec | OnnxFile, runtime: Runtime, *, weights: Path | None, seed: int, narrator: Narrator
) -> Origin:
    """Bring a source to one ONNX graph in the opset that the engine reads.

    Raises:
        UsageError: If weights are given for an ONNX file, which carries its own, or the labels are not as
            many as the classes.
        BuildError: If the model cannot be built, loaded or exported.
        VerdictError: If folding or exporting changed what it computes.
    """
    if isinstance(source, OnnxFile):
        if weights is not None:
            raise UsageError(f"expected no --weights for {source.name}.onnx, which carries its own")
        return _from_onnx(source, runtime, seed=seed, narrator=narrator)
    return _from_module(source, runtime, weights=weights, seed=seed, narrator=narrator)


def declared_inputs(source: ModelSpec | OnnxFile) -> tuple[TensorSpec, ...]:
    """Give the inputs of a source before anything long is done with it.

    Raises:
        BuildError: If an ONNX file cannot be read.
        UsageError: If the input shape given for an ONNX file contradicts it.
    """
    if isinstance(source, OnnxFile):
        from ..export.load_onnx import read_inputs

        return read_inputs(source.path, source.input_shape)
    return source.inputs


def _from_onnx(source: OnnxFile, runtime: Runtime, *, seed: int, narrator: Narrator) -> Origin:
    from ..export.load_onnx import load_onnx

    with narrator.stage(f"reading {source.path.name}"):
        exported = load_onnx(
            source.path,
            opset=runtime.capabilities.opset,
            evaluate=evaluate,
            seed=seed,
            input_shape=source.input_shape,
        )
    labelled = exported.outputs[exported.answering].name
    check_count(source.labels, labelled, exported.golden.outputs[labelled].shape)
    return Origin(
        exported,
        reference=evaluate(exported.model),
        reference_name="source ONNX",
        facts={"source": source.path.name},
        preprocess=source.preprocess,
        labels=source.labels,
    )


def _from_module(
    spec: ModelSpec, runtime: Runtime, *, weights: Path | None, seed: int, narrator: Narrator
) -> Origin:
    from ..export.reparam import reparameterize
    from ..export.to_onnx import to_onnx
    from ..export.torch_run import torch_run
    from ..models.weights import build_model

    with narrator.stage(f"building {spec.name}"):
        started = time.perf_counter()
        module = build_model(spec, weights=weights, seed=seed)
        params = sum(p.numel() for p in module.parameters())
        built = Step("build", f"{params:,} parameters", seconds=time.perf_counter() - started)
    reference = torch_run(module, spec.inputs, spec.outputs)
    _check_labels(spec, reference, seed)
    with narrator.stage("folding"):
        folded, step = reparameterize(module, spec.inputs, seed=seed)
    with narrator.stage("exporting to ONNX"):
        exported = to_onnx(
            folded,
            spec.name,
            spec.inputs,
            spec.outputs,
            opset=runtime.capabilities.opset,
            evaluate=evaluate,
            history=(built, step),
            seed=seed,
        )
    trained = _weights_named(spec, weights)
    random = trained is None and spec.untrained
    return Origin(
        replace(exported, answer=spec.answer),
        reference=reference,
        reference_name="torch",
        facts=_facts(spec, params, trained),
        preprocess=spec.preprocess,
        labels=spec.labels,
        warnings=(f"Random weights (seed {seed}): {spec.name} was not trained.",) if random else (),
    )


def _check_labels(spec: ModelSpec, run: Run, seed: int) -> None:
    """Let the network answer once, before anything long is done with it."""
    if spec.labels:
        answers = run(fresh_inputs(spec.inputs, batch=1, seed=seed))
        output = spec.answer or next(iter(answers))
        check_count(spec.labels, output, answers[output].shape)


def _weights_named(spec: ModelSpec, weights: Path | None) -> str | None:
    if weights is not None:
        return weights.name
    return f"{spec.weights} (shipped)" if spec.weights else None


def _facts(spec: ModelSpec, params: int, trained: str | None) -> Mapping[str, str]:
    facts = {
        "parameters": f"{params:,}",
        "weights": trained or ("random" if spec.untrained else "as the factory made them"),
        "paper": spec.paper,
        "licence of the public code": spec.licence,
        "checked": spec.checked,
        "data set": spec.dataset or "",
    }
    return {name: value for name, value in facts.items() if value}
