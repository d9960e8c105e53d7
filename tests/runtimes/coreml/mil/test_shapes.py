"""Operators that move, reduce, choose and place values, beside torch and beside what coremltools infers."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

rng = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def test_axes(compare: Any) -> None:
    checks = [
        ("reshape", lambda mb, x, **_: mb.reshape(x=x, shape=[4, -1, 3]), lambda x, **_: x.reshape(4, 10, 3)),
        (
            "reshape_keep",
            lambda mb, x, **_: mb.reshape(x=x, shape=[0, 0, -1, 1]),
            lambda x, **_: x.reshape(2, 3, 20, 1),
        ),
        (
            "reshape_right",
            lambda mb, v, **_: mb.reshape(x=v, shape=[2, -1, 0]),
            lambda v, **_: v.reshape(2, 1, 6),
        ),
        (
            "reshape_given",
            lambda mb, x, **_: mb.reshape(
                x=x, shape=mb.concat(values=(mb.const(val=[5]), mb.const(val=[-1])), axis=0)
            ),
            lambda x, **_: x.reshape(5, -1),
        ),
        (
            "reshape_like",
            lambda mb, x, **_: mb.reshape_like(
                x=x, ref_tensors=(x, x), begins=(0, 2), ends=(2, 0), end_masks=(False, True)
            ),
            lambda x, **_: x,
        ),
        ("expand", lambda mb, v, **_: mb.expand_dims(x=v, axes=[0, -1]), lambda v, **_: v[None, ..., None]),
        ("squeeze", lambda mb, one, **_: mb.squeeze(x=one, axes=[0, -1]), lambda one, **_: one[0, ..., 0]),
        ("squeeze_all", lambda mb, one, **_: mb.squeeze(x=one), lambda one, **_: one.squeeze()),
        ("flat", lambda mb, x, **_: mb.flatten2d(x=x, axis=-2), lambda x, **_: x.reshape(6, 20)),
        (
            "transpose",
            lambda mb, x, **_: mb.transpose(x=x, perm=[2, 0, -1, 1]),
            lambda x, **_: x.permute(2, 0, 3, 1),
        ),
        ("shape", lambda mb, x, **_: mb.shape(x=x), lambda x, **_: torch.tensor(x.shape)),
        (
            "concat",
            lambda mb, x, z, **_: mb.concat(values=(x, z), axis=1),
            lambda x, z, **_: torch.cat((x, z), 1),
        ),
        (
            "stack",
            lambda mb, x, **_: mb.stack(values=(x, x), axis=-1),
            lambda x, **_: torch.stack((x, x), -1),
        ),
        ("split", lambda mb, x, **_: mb.split(x=x, num_splits=2, axis=2), lambda x, **_: x.chunk(2, 2)),
        (
            "split_sizes",
            lambda mb, x, **_: mb.split(x=x, split_sizes=[1, 4], axis=-1),
            lambda x, **_: x.split((1, 4), -1),
        ),
        ("tile", lambda mb, x, **_: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x, **_: x.repeat(1, 2, 1, 3)),
        ("reverse", lambda mb, x, **_: mb.reverse(x=x, axes=[1, -1]), lambda x, **_: x.flip(1, 3)),
        ("reverse_all", lambda mb, v, **_: mb.reverse(x=v), lambda v, **_: v.flip(0, 1)),
        (
            "reverse_first",
            lambda mb, v, **_: mb.reverse_sequence(x=v, lengths=[2, 5], seq_axis=1, batch_axis=0),
            lambda v, **_: torch.stack(
                (torch.cat((v[0, :2].flip(0), v[0, 2:])), torch.cat((v[1, :5].flip(0), v[1, 5:])))
            ),
        ),
        (
            "windows",
            lambda mb, v, **_: mb.sliding_windows(x=v, axis=1, size=3, stride=2),
            lambda v, **_: v.unfold(1, 3, 2),
        ),
        ("identity", lambda mb, x, **_: mb.identity(x=x), lambda x, **_: x),
    ]
    feed = {"x": normal(2, 3, 4, 5), "z": normal(2, 2, 4, 5), "v": normal(2, 6), "one": normal(1, 3, 1, 4, 1)}
    compare(checks, feed)


def test_interleaved_parts_stand_in_turn(evaluated: Any) -> None:
    # coremltools infers them one after the other.
    feed = {"x": normal(2, 3, 4)}
    program = evaluated(
        lambda mb, x: mb.concat(values=(x, mb.mul(x=x, y=2.0)), axis=1, interleave=True, name="y"), feed
    )
    answer = program.run(feed)["y"]
    np.testing.assert_allclose(answer[:, 0::2], feed["x"])
    np.testing.assert_allclose(answer[:, 1::2], 2 * feed["x"])


def test_blocks(compare: Any) -> None:
    def shuffled(x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(x.reshape(2, 4, 2, 4, 6).transpose(1, 2).reshape(2, 8, 4, 6), 2)

    checks = [
        ("shuffle", lambda mb, x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2)),
        (
            "unshuffle",
            lambda mb, x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            lambda x: F.pixel_unshuffle(x, 2),
        ),
        ("to_space", lambda mb, x: mb.depth_to_space(x=x, block_size=2), shuffled),
        (
            "to_depth_and_back",
            lambda mb, x: mb.depth_to_space(x=mb.space_to_depth(x=x, block_size=2), block_size=2),
            lambda x: x,
        ),
        (
            "to_depth",
            lambda mb, x: mb.space_to_depth(x=x, block_size=2),
            lambda x: F.pixel_unshuffle(x, 2).reshape(2, 8, 4, 2, 3).transpose(1, 2).reshape(2, 32, 2, 3),
        ),
        (
            "to_batch",
            lambda mb, x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 1], [0, 0]]),
            lambda x: torch.cat(
                [F.pad(x, (0, 0, 1, 1))[:, :, i::2, j::3] for i in range(2) for j in range(3)]
            ),
        ),
        (
            "from_batch",
            lambda mb, x: mb.batch_to_space(
                x=mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 1], [0, 0]]),
                block_shape=[2, 3],
                crops=[[1, 1], [0, 2]],
            ),
            lambda x: x[..., :-2],
        ),
    ]
    compare(checks, {"x": normal(2, 8, 4, 6)})


def test_slices(compare: Any) -> None:
    checks = [
        (
            "range",
            lambda mb, x, **_: mb.slice_by_index(x=x, begin=[0, 1, 2], end=[2, 3, 5]),
            lambda x, **_: x[:, 1:3, 2:5],
        ),
        (
            "masks",
            lambda mb, x, **_: mb.slice_by_index(
                x=x,
                begin=[1, -2, 1],
                end=[0, 0, -1],
                stride=[1, 1, 2],
                begin_mask=[True, False, False],
                end_mask=[True, True, False],
            ),
            lambda x, **_: x[:, -2:, 1:-1:2],
        ),
        (
            "backwards",
            lambda mb, x, **_: mb.slice_by_index(
                x=x, begin=[0, 3, 0], end=[0, 0, 0], stride=[1, -2, 1], end_mask=[True, False, True]
            ),
            lambda x, **_: x[:, [3, 1]],
        ),
        (
            "single",
            lambda mb, x, **_: mb.slice_by_index(
                x=x, begin=[-1, 0, 2], end=[0, 4, 0], squeeze_mask=[True, False, True]
            ),
            lambda x, **_: x[-1, 0:4, 2],
        ),
        (
            "size",
            lambda mb, x, **_: mb.slice_by_size(x=x, begin=[0, 1, 2], size=[-1, 2, 3]),
            lambda x, **_: x[:, 1:3, 2:5],
        ),
        (
            "update",
            lambda mb, x, z, **_: mb.slice_update(
                x=x, update=z, begin=[0, 1, 0], end=[2, 4, 6], stride=[1, 2, 3]
            ),
            lambda x, z, **_: _put(x, z),
        ),
        ("band", lambda mb, x, **_: mb.band_part(x=x, lower=1, upper=0), lambda x, **_: x.tril().triu(-1)),
        ("upper", lambda mb, x, **_: mb.band_part(x=x, lower=0), lambda x, **_: x.triu()),
        ("lower", lambda mb, x, **_: mb.band_part(x=x, upper=0), lambda x, **_: x.tril()),
        (
            "crop",
            lambda mb, x, **_: mb.crop(x=x, crop_height=[1, 0], crop_width=[2, 1]),
            lambda x, **_: x[:, 1:, 2:-1],
        ),
    ]
    compare(checks, {"x": normal(2, 4, 6), "z": normal(2, 2, 2)})


def _put(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    changed = x.clone()
    changed[0:2, 1:4:2, 0:6:3] = z
    return changed


def test_pads(compare: Any) -> None:
    checks = [
        ("zeros", lambda mb, x: mb.pad(x=x, pad=[1, 2, 0, 3]), lambda x: F.pad(x, (0, 3, 1, 2))),
        (
            "value",
            lambda mb, x: mb.pad(x=x, pad=[2, 1], constant_val=1.5),
            lambda x: F.pad(x, (2, 1), value=1.5),
        ),
        (
            "reflect",
            lambda mb, x: mb.pad(x=x, pad=[1, 2, 4, 3], mode="reflect"),
            lambda x: F.pad(x, (4, 3, 1, 2), "reflect"),
        ),
        (
            "edge",
            lambda mb, x: mb.pad(x=x, pad=[3, 2, 1, 0], mode="replicate"),
            lambda x: F.pad(x, (1, 0, 3, 2), "replicate"),
        ),
        (
            "first",
            lambda mb, x: mb.pad(x=x, pad=[1, 0, 0, 1, 0, 0, 0, 0]),
            lambda x: F.pad(x, (0, 0, 0, 0, 0, 1, 1, 0)),
        ),
    ]
    compare(checks, {"x": normal(2, 3, 4, 5)})


REDUCTIONS = {
    "reduce_sum": lambda x, a, k: x.sum(a, k),
    "reduce_mean": lambda x, a, k: x.mean(a, k),
    "reduce_max": lambda x, a, k: x.amax(a, k),
    "reduce_min": lambda x, a, k: x.amin(a, k),
    "reduce_l1_norm": lambda x, a, k: x.abs().sum(a, k),
    "reduce_l2_norm": lambda x, a, k: x.square().sum(a, k).sqrt(),
    "reduce_log_sum": lambda x, a, k: x.sum(a, k).log(),
    "reduce_log_sum_exp": lambda x, a, k: x.logsumexp(a, k),
    "reduce_sum_square": lambda x, a, k: x.square().sum(a, k),
}


def test_reductions(compare: Any) -> None:
    checks: list[Any] = []
    for name, truth in REDUCTIONS.items():
        for axes, keep in (((0, -1), True), ((1,), False), ((0, 1, 2), False)):
            checks.append(
                (
                    f"{name}{len(axes)}",
                    lambda mb, x, _n=name, _a=axes, _k=keep, **_: getattr(mb, _n)(x=x, axes=_a, keep_dims=_k),
                    lambda x, _t=truth, _a=axes, _k=keep, **_: _t(x, _a, _k),
                )
            )
    checks += [
        ("prod", lambda mb, x, **_: mb.reduce_prod(x=x, axes=[0, -1]), lambda x, **_: x.prod(2).prod(0)),
        ("all", lambda mb, x, **_: mb.reduce_sum(x=x), lambda x, **_: x.sum()),
        ("whole", lambda mb, i, **_: mb.reduce_sum(x=i, axes=[0]), lambda i, **_: i.sum(0)),
        ("whole_max", lambda mb, i, **_: mb.reduce_max(x=i, axes=[1]), lambda i, **_: i.amax(1)),
        ("argmax", lambda mb, x, **_: mb.reduce_argmax(x=x, axis=1), lambda x, **_: x.argmax(1)),
        (
            "argmin",
            lambda mb, x, **_: mb.reduce_argmin(x=x, axis=-1, keep_dims=True),
            lambda x, **_: x.argmin(-1, True),
        ),
        (
            "first_of_equals",
            lambda mb, i, **_: mb.reduce_argmax(x=mb.mul(x=i, y=0), axis=0),
            lambda i, **_: 0 * i[0],
        ),
    ]
    feed = {
        "x": rng.uniform(0.1, 2, (2, 3, 4)).astype(np.float32),
        "i": rng.integers(-9, 9, (3, 4)).astype(np.int32),
    }
    compare(checks, feed)


def test_order(compare: Any) -> None:
    top = torch.topk
    checks = [
        ("argsort", lambda mb, x, **_: mb.argsort(x=x, axis=1), lambda x, **_: x.argsort(1, descending=True)),
        ("ascending", lambda mb, x, **_: mb.argsort(x=x, ascending=True), lambda x, **_: x.argsort(-1)),
        ("topk", lambda mb, x, **_: mb.topk(x=x, k=2, axis=-1), lambda x, **_: tuple(top(x, 2))),
        (
            "bottomk",
            lambda mb, x, **_: mb.topk(x=x, k=3, axis=1, ascending=True),
            lambda x, **_: tuple(top(x, 3, 1, False)),
        ),
        (
            "values",
            lambda mb, x, **_: mb.topk(x=x, k=2, axis=0, return_indices=False),
            lambda x, **_: top(x, 2, 0)[0],
        ),
        ("non_zero", lambda mb, i, **_: mb.non_zero(x=i), lambda i, **_: i.nonzero()),
        (
            "select",
            lambda mb, x, **_: mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=mb.mul(x=x, y=3.0)),
            lambda x, **_: torch.where(x > 0, x, 3 * x),
        ),
        ("cumsum", lambda mb, x, **_: mb.cumsum(x=x, axis=1), lambda x, **_: x.cumsum(1)),
        (
            "cumsum_turned",
            lambda mb, x, **_: mb.cumsum(x=x, axis=2, reverse=True),
            lambda x, **_: x.flip(2).cumsum(2).flip(2),
        ),
    ]
    compare(checks, {"x": normal(3, 4, 5), "i": rng.integers(0, 2, (3, 4)).astype(np.int32)})


def test_an_exclusive_sum_leaves_the_value_out(evaluated: Any) -> None:
    feed = {"x": normal(3, 4)}
    program = evaluated(lambda mb, x: mb.cumsum(x=x, axis=1, exclusive=True, name="y"), feed)
    np.testing.assert_allclose(program.run(feed)["y"], feed["x"].cumsum(1) - feed["x"], atol=1e-6)


def test_made_values(compare: Any) -> None:
    checks = [
        ("fill", lambda mb, i, **_: mb.fill(shape=[2, 3], value=1.5), lambda i, **_: torch.full((2, 3), 1.5)),
        (
            "fill_given",
            lambda mb, i, **_: mb.fill(shape=mb.shape(x=i), value=7),
            lambda i, **_: torch.full(i.shape, 7),
        ),
        (
            "fill_like",
            lambda mb, i, **_: mb.fill_like(ref_tensor=i, value=2.0),
            lambda i, **_: torch.full(i.shape, 2.0),
        ),
        (
            "range",
            lambda mb, i, **_: mb.range_1d(start=1, end=9, step=3),
            lambda i, **_: torch.arange(1, 9, 3),
        ),
        (
            "range_down",
            lambda mb, i, **_: mb.range_1d(start=1.0, end=-1.0, step=-0.5),
            lambda i, **_: torch.arange(1, -1, -0.5),
        ),
        (
            "one_hot",
            lambda mb, i, **_: mb.one_hot(indices=i, one_hot_vector_size=4),
            lambda i, **_: F.one_hot(i.long(), 4),
        ),
        (
            "one_hot_values",
            lambda mb, i, **_: mb.one_hot(
                indices=i, one_hot_vector_size=4, axis=1, on_value=2.5, off_value=-1.0
            ),
            lambda i, **_: torch.where(F.one_hot(i.long(), 4).movedim(-1, 1) == 1, 2.5, -1.0),
        ),
    ]
    compare(checks, {"i": rng.integers(0, 4, (3, 2)).astype(np.int32)})


def test_gathers(compare: Any) -> None:
    def take(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return torch.stack([row[:, places.long()] for row, places in zip(x, i, strict=True)])

    checks = [
        ("gather", lambda mb, x, i, **_: mb.gather(x=x, indices=i, axis=1), lambda x, i, **_: x[:, i.long()]),
        ("scalar", lambda mb, x, **_: mb.gather(x=x, indices=2, axis=-1), lambda x, **_: x[..., 2]),
        (
            "batches",
            lambda mb, x, i, **_: mb.gather(x=x, indices=i, axis=2, batch_dims=1),
            lambda x, i, **_: take(x, i),
        ),
        (
            "along",
            lambda mb, x, a, **_: mb.gather_along_axis(x=x, indices=a, axis=1),
            lambda x, a, **_: torch.take_along_dim(x, a.long(), 1),
        ),
        (
            "nd",
            lambda mb, x, n, **_: mb.gather_nd(x=x, indices=n),
            lambda x, n, **_: x[n[..., 0].long(), n[..., 1].long()],
        ),
    ]
    feed = {
        "x": normal(2, 3, 4),
        "i": rng.integers(0, 3, (2, 5)).astype(np.int32),
        "a": rng.integers(0, 3, (2, 6, 4)).astype(np.int32),
        "n": np.stack([rng.integers(0, 2, 5), rng.integers(0, 3, 5)], -1).astype(np.int32),
    }
    compare(checks, feed)


def test_scatters(compare: Any) -> None:
    def put(reduce: str) -> Any:
        def truth(x: torch.Tensor, i: torch.Tensor, u: torch.Tensor, **_: Any) -> torch.Tensor:
            places = i.long()[:, None, None].expand(u.movedim(1, 0).shape)
            moved = x.movedim(1, 0).contiguous()
            return moved.scatter_reduce(0, places, u.movedim(1, 0), reduce).movedim(0, 1)

        return truth

    def update(x: torch.Tensor, p: torch.Tensor, u: torch.Tensor, **_: Any) -> torch.Tensor:
        changed = x.clone()
        changed[:, p.long()] = u
        return changed

    def scatter(mode: str, where: str = "i") -> Any:
        return lambda mb, x, u, **v: mb.scatter(data=x, indices=v[where], updates=u, axis=1, mode=mode)

    checks = [
        ("add", scatter("add"), put("sum")),
        ("mul", scatter("mul"), put("prod")),
        ("max", scatter("max"), put("amax")),
        ("min", scatter("min"), put("amin")),
        ("sub", scatter("sub", "p"), lambda x, p, u, **_: update(x, p, x[:, p.long()] - u)),
        ("div", scatter("div", "p"), lambda x, p, u, **_: update(x, p, x[:, p.long()] / u)),
        ("update", scatter("update", "p"), update),
        (
            "along",
            lambda mb, x, a, w, **_: mb.scatter_along_axis(
                data=x, indices=a, updates=w, axis=2, mode="update"
            ),
            lambda x, a, w, **_: x.scatter(2, a.long(), w),
        ),
        (
            "nd",
            lambda mb, x, n, z, **_: mb.scatter_nd(data=x, indices=n, updates=z),
            lambda x, n, z, **_: x.clone().index_put((n[:, 0].long(), n[:, 1].long()), z, accumulate=True),
        ),
    ]
    feed = {
        "x": normal(2, 5, 4),
        "u": normal(2, 3, 4),
        "i": np.array([1, 1, 3], np.int32),
        "p": np.array([4, 0, 2], np.int32),
        "a": np.argsort(rng.normal(size=(2, 5, 4)), -1)[..., :2].astype(np.int32),
        "w": normal(2, 5, 2),
        "n": np.array([[0, 1], [1, 4], [0, 1]], np.int32),
        "z": normal(3, 4),
    }
    compare(checks, feed)


def test_a_scatter_along_an_axis_adds_up(evaluated: Any) -> None:
    # coremltools infers an update whatever the mode is.
    feed = {"x": normal(3, 4), "w": normal(3, 2), "b": np.array([[1, 1], [0, 3], [2, 2]], np.int32)}
    program = evaluated(
        lambda mb, x, w, b: mb.scatter_along_axis(data=x, indices=b, updates=w, axis=1, name="y"), feed
    )
    wanted = feed["x"].copy()
    np.add.at(wanted, (np.arange(3)[:, None], feed["b"]), feed["w"])
    np.testing.assert_allclose(program.run(feed)["y"], wanted, atol=1e-6)
