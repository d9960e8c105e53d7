"""Whole networks: the package answers like torch, and like the one that coremltools' own front end makes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fourfold.export.parity import TOLERANCES, fresh_inputs
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.quiet import quiet
from fourfold.export.reparam import reparameterize
from fourfold.export.to_onnx import to_onnx
from fourfold.export.torch_run import torch_run
from fourfold.models.registry import get_spec
from fourfold.models.weights import build_model
from fourfold.runtimes.coreml.mil.program import load_program
from fourfold.runtimes.coreml.runtime import CoreMlRuntime
from fourfold.runtimes.coreml.sdk import coremltools, target_of
from fourfold.runtimes.device import get_device
from fourfold.runtimes.reference import evaluate

PHONE = get_device("iphone-15")
NETWORKS = ["ep_nano", "smt_nano", "rsmamba_nano", "perceiver_nano", "moh_vit_nano", "mhs_vm_nano"]


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(found - wanted).max() <= TOLERANCES["fp32"].relative * np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_package_answers_like_torch_at_any_batch(name: str, tmp_path: Path) -> None:
    spec, runtime = get_spec(name), CoreMlRuntime()
    module, _ = reparameterize(build_model(spec, weights=None, seed=0), spec.inputs, seed=0)
    opset = runtime.capabilities.opset
    exported = to_onnx(module, name, spec.inputs, spec.outputs, opset=opset, evaluate=evaluate)
    exported = rewrite(exported, COMMON, evaluate=evaluate)
    reference = torch_run(module, spec.inputs, spec.outputs)
    with runtime.open(runtime.compile(exported, PHONE, tmp_path), PHONE) as session:
        for batch in (1, 3):
            feed = fresh_inputs(spec.inputs, batch=batch, seed=40 + batch)
            answers = session.run(feed)
            for output, wanted in reference(feed).items():
                close(answers[output], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ep_nano", "smt_nano"])
def test_both_front_ends_make_the_same_network(name: str, tmp_path: Path) -> None:
    spec, runtime, ct = get_spec(name), CoreMlRuntime(), coremltools()
    module, _ = reparameterize(build_model(spec, weights=None, seed=0), spec.inputs, seed=0)
    opset = runtime.capabilities.opset
    exported = to_onnx(module, name, spec.inputs, spec.outputs, opset=opset, evaluate=evaluate)
    feed = fresh_inputs(spec.inputs, batch=1, seed=3)
    arrays = list(feed.values())
    with quiet():
        traced = torch.export.export(module.eval(), tuple(torch.from_numpy(a) for a in arrays))
        # torch 2.13 writes aliases, and coremltools 9 refuses them.
        plain = traced.run_decompositions({torch.ops.aten.alias.default: lambda x: x})
        ct.convert(
            plain,
            minimum_deployment_target=target_of("iOS17"),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
            package_dir=str(tmp_path / "theirs.mlpackage"),
        )
    theirs = load_program(tmp_path / "theirs.mlpackage")
    given = theirs.run({i.name: a for i, a in zip(theirs.inputs, arrays, strict=True)})
    with runtime.open(runtime.compile(exported, PHONE, tmp_path), PHONE) as session:
        answers = session.run(feed)
    for output, other in zip(spec.outputs, theirs.outputs, strict=True):
        close(answers[output], given[other.name])
