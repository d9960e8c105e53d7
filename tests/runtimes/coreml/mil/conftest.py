"""Programs built by coremltools from scratch, saved, loaded again, and compared with two other truths."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from fourfold.export.quiet import quiet
from fourfold.runtimes.coreml.mil.program import Program, load_program

Feed = dict[str, np.ndarray]
Build = Callable[..., Any]
Check = tuple[str, Build, Callable[..., Any] | None]
"""Name, an operator made by ``mb`` from inputs, and what torch says; None where only coremltools does."""

Save = Callable[..., Path]
Compare = Callable[..., None]

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="session")
def mb() -> Any:
    """The builder of MIL programs."""
    pytest.importorskip("coremltools", exc_type=ImportError)
    with quiet():
        from coremltools.converters.mil import Builder
    return Builder


@pytest.fixture(scope="session")
def ct() -> Any:
    with quiet():
        return pytest.importorskip("coremltools", exc_type=ImportError)


@pytest.fixture(scope="session")
def save(ct: Any, mb: Any) -> Save:
    """Convert ``build(mb, **inputs)`` without any optimization and save it."""

    def run(
        path: Path,
        build: Build,
        feed: Mapping[str, np.ndarray],
        *,
        target: str = "iOS18",
        half: bool = False,
        shapes: Mapping[str, tuple[Any, ...]] | None = None,
        **options: Any,
    ) -> Path:
        with quiet():
            from coremltools.converters.mil.mil import Function
            from coremltools.converters.mil.mil import Program as Unsaved

            opset = getattr(ct.target, target)
            places = {
                name: mb.placeholder(shape=(shapes or {}).get(name, array.shape), dtype=_type(array))
                for name, array in feed.items()
            }
            program = Unsaved()
            with Function(places, opset_version=opset) as function:
                function.set_outputs(_all(build(mb, **function.inputs)))
                program.add_function("main", function)
            precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
            model = ct.convert(
                program,
                source="milinternal",
                convert_to="mlprogram",
                minimum_deployment_target=opset,
                compute_precision=precision,
                pass_pipeline=None if half else ct.PassPipeline.EMPTY,
                **options,
            )
            package = path / "net.mlpackage"
            model.save(str(package))
        return package

    return run


@pytest.fixture
def compare(save: Save, mb: Any, tmp_path: Path) -> Compare:
    """Evaluate all checks as one program, beside torch and beside coremltools' own inference of values."""

    def run(checks: Sequence[Check], feed: Feed, *, target: str = "iOS18", tolerance: float = 1e-5) -> None:
        def everything(mb: Any, **inputs: Any) -> Any:
            outputs: list[Any] = []
            for name, build, _ in checks:
                for i, value in enumerate(_all(build(mb, **inputs))):
                    outputs.append(_output(mb, value, f"{name}_{i}"))
            return tuple(outputs)

        program = load_program(save(tmp_path, everything, feed, target=target))
        assert not program.unknown
        answers = program.run(feed)
        inferred = _inferred(mb, checks, feed, target)
        for name, _, expect in checks:
            compared = 0
            if expect is not None:
                wanted = _all(expect(**{key: torch.from_numpy(array) for key, array in feed.items()}))
                compared += _same(answers, name, wanted, tolerance)
            compared += _same(answers, name, inferred[name], tolerance)
            assert compared, f"nothing to compare {name} with"

    return run


def _same(answers: Mapping[str, np.ndarray], name: str, wanted: Sequence[Any], tolerance: float) -> int:
    for i, value in enumerate(wanted):
        array = np.asarray(value.numpy() if isinstance(value, torch.Tensor) else value)
        got = answers[f"{name}_{i}"]
        assert got.shape == (array.shape or (1,) * got.ndim), name
        assert_allclose(got, array.astype(got.dtype).reshape(got.shape), tolerance, tolerance, err_msg=name)
    return len(wanted)


def _inferred(mb: Any, checks: Sequence[Check], feed: Feed, target: str) -> dict[str, list[Any]]:
    """What coremltools infers when all inputs are constants, for the operators for which it does."""
    from coremltools import target as targets
    from coremltools.converters.mil.mil import Function

    found: dict[str, list[Any]] = {}
    with quiet(), Function({}, opset_version=getattr(targets, target)):
        for name, build, _ in checks:
            values = {key: mb.const(val=array.copy()) for key, array in feed.items()}
            try:
                outputs = _all(build(mb, **values))
            except (NotImplementedError, TypeError, ValueError):
                outputs = []  # its inference is broken there, or wants a value that is no constant
            known = [output.val for output in outputs]
            found[name] = [] if any(value is None for value in known) else known
    return found


def _output(mb: Any, value: Any, name: str) -> Any:
    from coremltools.converters.mil.mil import types

    if value.dtype == types.bool:
        value = mb.cast(x=value, dtype="int32")
    return mb.identity(x=value, name=name)


def _all(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _type(array: np.ndarray) -> Any:
    from coremltools.converters.mil.mil import types

    return types.int32 if array.dtype.kind == "i" else types.fp32


@pytest.fixture
def evaluated(save: Save, tmp_path: Path) -> Callable[..., Program]:
    """Save and load a program."""

    def run(build: Build, feed: Feed, **options: Any) -> Program:
        return load_program(save(tmp_path, build, feed, **options))

    return run
