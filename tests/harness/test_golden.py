"""Golden samples on the edge of a decision are left out; nothing else is."""

import numpy as np

from fourfold.export.artifact import Feed, Golden
from fourfold.export.parity import Parity, parity
from fourfold.harness.golden import away_from_edges

EDGE, JUMP = np.float32(0.75), 0.5
X = np.array([[0.2, 1.0], [0.75, 1.0], [2.0, -1.0]], np.float32)
"""The second sample is on the edge."""


def graph(feed: Feed) -> Feed:
    x = feed["x"]
    return {"y": x + JUMP * (x[:, :1] >= EDGE)}


def engine(*, off: float = 0.0, row: int = 0) -> Feed:
    """Decides ties the other way, and is perhaps wrong in one row."""
    answer = X + JUMP * (X[:, :1] > EDGE)
    answer[row] += off
    return {"y": answer.astype(np.float32)}


def judged(answers: Feed, rows: slice = slice(None)) -> tuple[Parity, Parity]:
    golden = Golden({"x": X[rows]}, {"y": graph({"x": X[rows]})["y"].astype(np.float32)})
    answers = {name: array[rows] for name, array in answers.items()}
    batch = len(golden.inputs["x"])
    found = parity("fp32", golden.outputs, answers, names=("float model", "compiled"), batch=batch)
    return found, away_from_edges(found, graph, golden, answers)


def test_a_sample_on_the_edge_is_left_out_and_counted() -> None:
    found, settled = judged(engine())
    assert not found.ok
    assert settled.ok
    assert (settled.batch, settled.redrawn) == (2, 1)
    assert settled.reference == "float model"


def test_a_wrong_answer_elsewhere_still_fails() -> None:
    _, settled = judged(engine(off=1e-2))
    assert not settled.ok
    assert settled.redrawn == 1


def test_an_error_larger_than_the_jump_still_fails() -> None:
    found, settled = judged(engine(off=3.0, row=1))
    assert settled is found


def test_samples_that_are_all_on_the_edge_prove_nothing() -> None:
    found, settled = judged(engine(), slice(1, 2))
    assert settled is found
    assert not settled.ok


def test_an_artifact_without_answers_is_never_excused() -> None:
    found = parity("fp32", graph({"x": X}), {}, names=("float model", "compiled"), batch=3)
    assert away_from_edges(found, graph, Golden({"x": X}, graph({"x": X})), {}) is found
