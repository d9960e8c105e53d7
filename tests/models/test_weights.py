"""Weights load whole or not at all, and nothing in a file is run."""

import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fourfold.errors import BuildError, UsageError
from fourfold.models.spec import ModelSpec
from fourfold.models.weights import build_model, load_weights, shipped_weights


class Net(nn.Module):
    """Parameters, a norm's statistics, and something that would be random in training."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, outputs)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Net()


class RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def randomised(seed: int = 1) -> Net:
    torch.manual_seed(seed)
    net = Net()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.normal_()
    return net


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def spec_of(weights: str | None = None) -> ModelSpec:
    return ModelSpec(name="net", build=Net, inputs=(), weights=weights)


def test_safetensors_load(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    load_weights(target, tmp_path / "net.safetensors")
    assert same(source, target)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}]
)
def test_torch_files_load_with_and_without_wrapper(tmp_path: Path, wrap: Callable[[object], object]) -> None:
    source, target = randomised(1), randomised(2)
    torch.save(wrap(source.state_dict()), tmp_path / "net.pth")
    load_weights(target, tmp_path / "net.pth")
    assert same(source, target)


@pytest.mark.parametrize(
    ("first", "second", "wrap"),
    [
        ("model", "model_ema", lambda s: s),
        ("state_dict", "state_dict_ema", lambda s: s),
        ("model", "ema.module", lambda s: {"module": s, "decay": 0.999}),
        ("model", "average", lambda s: {f"module.{k}": v for k, v in s.items()}),
    ],
)
def test_a_file_with_raw_and_averaged_weights_is_refused_and_names_both(
    tmp_path: Path, first: str, second: str, wrap: Callable[[object], object]
) -> None:
    raw, averaged, target = randomised(1), randomised(2), randomised(3)
    before = randomised(3)
    whole = {first: raw.state_dict(), second.split(".")[0]: wrap(averaged.state_dict()), "epoch": 3}
    torch.save(whole, tmp_path / "net.pth")
    with pytest.raises(BuildError, match=f"got 2 that differ, under '{first}' and '{second}'; save the one"):
        load_weights(target, tmp_path / "net.pth")
    assert same(target, before)


def test_the_same_weights_twice_and_other_tensors_beside_them_load(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    state = source.state_dict()
    moments = {0: {"exp_avg": torch.zeros(3)}, 1: {"exp_avg": torch.ones(3)}}
    torch.save({"model": state, "model_ema": state, "optimizer": {"state": moments}}, tmp_path / "net.pth")
    load_weights(target, tmp_path / "net.pth")
    assert same(source, target)


def test_a_file_that_holds_itself_loads(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    whole: dict[str, object] = {"model": source.state_dict()}
    whole["again"] = whole
    torch.save(whole, tmp_path / "net.pth")
    load_weights(target, tmp_path / "net.pth")
    assert same(source, target)


def test_arguments_of_a_training_script_beside_the_weights_are_passed_over(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    arguments = Namespace(lr=1e-3, model="net", betas=(0.9, 0.999), nested=Namespace(seed=1))
    torch.save({"model": source.state_dict(), "epoch": 3, "args": arguments}, tmp_path / "net.pth")
    load_weights(target, tmp_path / "net.pth")
    assert same(source, target)


def test_code_among_the_arguments_is_refused(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    torch.save({"model": Net().state_dict(), "args": Namespace(hook=RunsCode(mark))}, path)
    with pytest.raises(BuildError, match=r"net\.pth, which wants to run posix\.system"):
        load_weights(Net(), path)
    assert not mark.exists()


def test_prefix_of_a_data_parallel_wrapper_is_dropped(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    torch.save({f"module.{k}": v for k, v in source.state_dict().items()}, tmp_path / "net.pt")
    load_weights(target, tmp_path / "net.pt")
    assert same(source, target)


def test_weights_of_a_wrapped_network_load(tmp_path: Path) -> None:
    source, target = randomised(), Wrapper()
    torch.save(source.state_dict(), tmp_path / "net.pt")
    load_weights(target, tmp_path / "net.pt")
    assert same(source, target.model)


def test_half_precision_file_loads_into_a_float_model(tmp_path: Path) -> None:
    source, target = randomised(1), randomised(2)
    save_file({k: v.half() for k, v in source.state_dict().items()}, tmp_path / "net.safetensors")
    load_weights(target, tmp_path / "net.safetensors")
    assert target.head.weight.dtype == torch.float32
    assert torch.equal(target.head.weight, source.head.weight.half().float())


@pytest.mark.parametrize("inside", [False, True])
def test_file_that_wants_to_run_code_is_refused(tmp_path: Path, inside: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    hostile = RunsCode(mark)
    torch.save({**Net().state_dict(), "extra": hostile} if inside else hostile, path)
    with pytest.raises(BuildError, match=r"net\.pth, which wants to run posix\.system"):
        load_weights(Net(), path)
    assert not mark.exists()


@pytest.mark.parametrize(("protocol", "why"), [(2, r"wants to run posix\.system"), (5, "no pickle of plain")])
def test_plain_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, protocol: int, why: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(RunsCode(mark), protocol=protocol))
    with pytest.raises(BuildError, match=rf"net\.pkl, which .*{why}"):
        load_weights(Net(), path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path, target = tmp_path / f"net{suffix}", randomised(2)
    if suffix == ".pth":
        torch.save(randomised().state_dict(), path)
    else:
        save_file(randomised().state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(BuildError, match="is damaged") as caught:
        load_weights(target, path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_of_noise_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(BuildError, match="is damaged"):
        load_weights(Net(), path)


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), {"a": 1}, {1: torch.zeros(3)}, {"model": 4}], ids=str
)
def test_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(BuildError, match="expected tensors by name"):
        load_weights(Net(), tmp_path / "net.pth")


def test_missing_and_unknown_names_are_refused_together(tmp_path: Path) -> None:
    state = randomised().state_dict()
    state["tail.weight"] = state.pop("head.weight")
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(BuildError, match=r"1 missing \(head\.weight\) and 1 unknown \(tail\.weight\)"):
        load_weights(Net(), tmp_path / "net.safetensors")


def test_another_size_is_refused(tmp_path: Path) -> None:
    save_file(Net(outputs=5).state_dict(), tmp_path / "net.safetensors")
    target = randomised()
    before = target.body[0].weight.clone()
    with pytest.raises(BuildError, match=r"head\.weight is \(5, 4\) instead of \(3, 4\)"):
        load_weights(target, tmp_path / "net.safetensors")
    assert torch.equal(target.body[0].weight, before)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UsageError, match="which is none"):
            load_weights(Net(), path)


def test_random_model_depends_on_the_seed_alone() -> None:
    torch.manual_seed(99)
    one = build_model(spec_of(), seed=4)
    state = torch.random.get_rng_state()
    two = build_model(spec_of(), seed=4)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's generator must not move"
    assert same(one, two)
    assert not same(one, build_model(spec_of(), seed=5))
    assert not one.training
    assert not any(m.training for m in one.modules())


def test_given_weights_come_before_shipped_ones(tmp_path: Path) -> None:
    ours, theirs = randomised(1), randomised(2)
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    spec = spec_of(str(tmp_path / "ours.safetensors"))
    assert same(build_model(spec), ours)
    assert same(build_model(spec, weights=tmp_path / "theirs.safetensors"), theirs)


def test_shipped_weights_live_beside_the_code() -> None:
    assert shipped_weights(spec_of()) is None
    path = shipped_weights(spec_of("net.safetensors"))
    assert path is not None
    assert path.parts[-3:] == ("models", "trained", "net.safetensors")
