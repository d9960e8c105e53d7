"""Inputs on the edge of a decision are put aside, and nothing that is really wrong hides behind them."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.errors import VerdictError
from fourfold.export import passes
from fourfold.export.artifact import Exported, Feed, Golden, Run
from fourfold.export.check import check, settle
from fourfold.export.edges import NUDGE, NUDGES, REDRAWS, nudged_answers
from fourfold.export.parity import Parity, fresh_inputs, parity
from fourfold.export.passes import rewrite
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

SPECS = (TensorSpec("x", ("batch", 8)),)
NAMES = ("reference", "candidate")
FIRST = fresh_inputs(SPECS, batch=1, seed=1)["x"]
EDGE = FIRST[0].sum(dtype=np.float32)
"""The score of the first input that `check` draws: a decision at this value is on an edge there."""


def router(jump: float, *, edge: float = float(EDGE), at_tie: bool = True, off: float = 0.0) -> Run:
    """Answer with the numbers themselves, raised by ``jump`` where their sum reaches the edge."""

    def run(feed: Feed) -> Feed:
        x = feed["x"]
        score = np.array([row.sum(dtype=np.float32) for row in x])
        chosen = score >= edge if at_tie else score > edge
        return {"y": x * (1 + off) + jump * chosen[:, None]}

    return run


def compared(reference: Run, candidate: Run) -> Parity:
    (found,) = check("fp32", reference, candidate, SPECS, names=NAMES, batches=(1,))
    return found


def test_two_right_routers_differ_on_an_edge_and_agree_elsewhere() -> None:
    left, right = router(0.5)({"x": FIRST})["y"], router(0.5, at_tie=False)({"x": FIRST})["y"]
    assert np.abs(left - right).min() == pytest.approx(0.5)
    found = compared(router(0.5), router(0.5, at_tie=False))
    assert found.ok
    assert found.redrawn == 1


def test_a_wrong_answer_away_from_every_edge_fails_at_once() -> None:
    found = compared(router(0.5, edge=1e9), router(0.5, edge=1e9, off=1e-3))
    assert not found.ok
    assert found.redrawn == 0


def test_a_wrong_answer_does_not_hide_behind_an_edge() -> None:
    found = compared(router(0.5), router(0.5, at_tie=False, off=1e-3))
    assert not found.ok
    assert found.redrawn == 1
    assert found.relative == pytest.approx(1e-3, rel=0.1)


def test_an_error_larger_than_the_jump_is_no_edge() -> None:
    found = compared(router(0.01), router(0.01, at_tie=False, off=0.5))
    assert not found.ok
    assert found.redrawn == 0


def test_a_steep_but_smooth_network_has_no_edges() -> None:
    def steep(feed: Feed) -> Feed:
        return {"y": np.sin(50 * feed["x"])}

    def off(feed: Feed) -> Feed:
        return {"y": np.sin(50 * feed["x"]) + np.float32(2e-4)}

    found = compared(steep, off)
    assert not found.ok
    assert found.redrawn == 0


def test_a_network_that_is_undecided_everywhere_fails() -> None:
    def noise(feed: Feed) -> Feed:
        digits = np.ascontiguousarray(feed["x"]).view(np.int32)
        return {"y": (digits % 2).astype(np.float32)}

    found = compared(noise, lambda feed: {"y": 1 - noise(feed)["y"]})
    assert not found.ok
    assert found.redrawn == REDRAWS


def test_nudges_are_small_and_leave_integers_alone() -> None:
    feed = {"x": np.full((4, 5), 8, np.float32), "task": np.array([3]), "on": np.array([True])}
    asked: list[Feed] = []
    list(nudged_answers(lambda given: asked.append(given) or {}, feed, seed=0))
    assert len(asked) == NUDGES
    moves = np.stack([other["x"] - feed["x"] for other in asked])
    assert 0 < np.abs(moves).max() < 8 * 6 * NUDGE
    assert all(other["x"].dtype == np.float32 for other in asked)
    assert all(np.array_equal(other[k], feed[k]) for other in asked for k in ("task", "on"))


def test_a_missing_output_is_never_excused() -> None:
    reference = router(0.5)
    broken = parity("fp32", reference({"x": FIRST}), {}, names=NAMES, batch=1)
    never: Callable[[int], Feed] = lambda _: pytest.fail("nothing else may be drawn")  # noqa: E731
    assert settle(broken, reference, reference, {"x": FIRST}, never) is broken


class OtherSide(ir.passes.InPlacePass):
    """Decide ties the other way: right everywhere but on the edge."""

    operator = "Greater"

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        node = next(n for n in model.graph if n.op_type == "GreaterOrEqual")
        node.op_type = self.operator
        return ir.passes.PassResult(model, True)


class WrongSide(OtherSide):
    """Decide the other way everywhere."""

    operator = "Less"


@pytest.fixture
def routed() -> Exported:
    """A graph whose decision is on the edge at the first input that a rewrite is proven on."""
    edge = fresh_inputs(SPECS, batch=1, seed=7)["x"][0, 0]
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[batch, 8] x) => (float[batch, 8] y) <int64[1] at = {0}, float[1] jump = {0.5}> {
        score = Gather <axis = 1> (x, at)
        chosen = GreaterOrEqual(score, edge)
        raised = Add(x, jump)
        y = Where(chosen, raised, x)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([edge], np.float32), "edge"))
    return Exported("net", ir.from_proto(proto), SPECS, (TensorSpec("y", ("batch", 8)),), Golden({}, {}))


def test_a_rewrite_is_proven_away_from_the_edge(routed: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(passes.PASSES, "other_side", OtherSide)
    done = rewrite(routed, ("other_side", "tidy"), evaluate=evaluate)
    assert [p.redrawn for p in done.history[0].parity] == [1, 0]
    monkeypatch.setitem(passes.PASSES, "wrong_side", WrongSide)
    with pytest.raises(VerdictError, match="wrong_side"):
        rewrite(routed, ("wrong_side",), evaluate=evaluate)
