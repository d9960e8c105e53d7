"""Pictures, recurrent layers, quantization, control flow and chance."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fourfold.errors import BuildError
from fourfold.runtimes.coreml.mil.ops.resize import resize_bilinear
from fourfold.runtimes.coreml.mil.program import load_program

rng = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def test_resizing(compare: Any) -> None:
    def linear(mode: str) -> Any:
        return lambda mb, x: mb.resize_bilinear(
            x=x, target_size_height=7, target_size_width=9, sampling_mode=mode
        )

    def to(x: torch.Tensor, *, align: bool) -> torch.Tensor:
        return F.interpolate(x, (7, 9), mode="bilinear", align_corners=align)

    checks = [
        ("unaligned", linear("UNALIGN_CORNERS"), lambda x: to(x, align=False)),
        ("aligned", linear("STRICT_ALIGN_CORNERS"), lambda x: to(x, align=True)),
        (
            "up",
            lambda mb, x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False
            ),
            lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear"),
        ),
        (
            "up_aligned",
            lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3),
            lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=True),
        ),
        (
            "nearest",
            lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            lambda x: F.interpolate(x, scale_factor=(2, 3)),
        ),
        (
            "nearest_to",
            lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=7, target_size_width=3),
            lambda x: F.interpolate(x, (7, 3)),
        ),
        (
            "resize",
            lambda mb, x: mb.resize(
                x=x, shape=[0, 9], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"
            ),
            lambda x: F.interpolate(x, (5, 9), mode="bilinear"),
        ),
        (
            "resize_nearest",
            lambda mb, x: mb.resize(
                x=x,
                shape=[3, 8],
                resized_dims=np.uint32(2),
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="UNALIGN_CORNERS",
            ),
            lambda x: F.interpolate(x, (3, 8), mode="nearest-exact"),
        ),
    ]
    compare(checks, {"x": normal(2, 3, 5, 4)})


def test_resizing_modes_sample_where_mil_says(evaluated: Any) -> None:
    # The grids that the documentation of resize_bilinear lists for two values and five.
    grids = {
        "UNALIGN_CORNERS": [0.0, 0.1, 0.5, 0.9, 1.0],
        "STRICT_ALIGN_CORNERS": [0.0, 0.25, 0.5, 0.75, 1.0],
        "ALIGN_CORNERS": [0.0, 0.25, 0.5, 0.75, 1.0],
        "DEFAULT": [0.0, 0.4, 0.8, 1.0, 1.0],
        "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    feed = {"x": np.array([[[[0.0, 1.0]]]], np.float32)}

    def build(mb: Any, x: Any) -> Any:
        return tuple(
            mb.resize_bilinear(
                x=x, target_size_height=1, target_size_width=5, sampling_mode=mode, name=mode.lower()
            )
            for mode in grids
        )

    answers = evaluated(build, feed).run(feed)
    for mode, grid in grids.items():
        np.testing.assert_allclose(answers[mode.lower()].reshape(-1), grid, atol=1e-6, err_msg=mode)


def test_sampling(compare: Any) -> None:
    def sample(mode: str, padding: str, *, align: bool, value: float = 0.0) -> Any:
        return lambda mb, x, g, **_: mb.resample(
            x=x,
            coordinates=g,
            sampling_mode=mode,
            padding_mode=padding,
            padding_value=value,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=align,
        )

    def grid(mode: str, padding: str, *, align: bool) -> Any:
        return lambda x, g, **_: F.grid_sample(x, g, mode, padding, align)

    matrix = np.array([[0.8, 0.3, 0.1, -0.2, 0.9, 0.05]], np.float32)

    def mapped(x: torch.Tensor, **_: Any) -> torch.Tensor:
        places = F.affine_grid(torch.from_numpy(matrix).reshape(1, 2, 3).expand(2, 2, 3), [2, 3, 6, 7], True)
        return F.grid_sample(x, places, align_corners=True)

    def affine(mb: Any, x: Any, **_: Any) -> Any:
        return mb.affine(
            x=x,
            transform_matrix=matrix,
            output_height=6,
            output_width=7,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        )

    checks = [
        ("zeros", sample("bilinear", "constant", align=True), grid("bilinear", "zeros", align=True)),
        ("halves", sample("bilinear", "constant", align=False), grid("bilinear", "zeros", align=False)),
        ("border", sample("bilinear", "border", align=False), grid("bilinear", "border", align=False)),
        ("mirror", sample("bilinear", "reflection", align=True), grid("bilinear", "reflection", align=True)),
        ("mirrored", sample("nearest", "symmetric", align=False), grid("nearest", "reflection", align=False)),
        ("affine", affine, mapped),
    ]
    feed = {"x": normal(2, 3, 5, 4), "g": rng.uniform(-2, 2, (2, 3, 6, 2)).astype(np.float32)}
    compare(checks, feed)


def test_boxes(evaluated: Any) -> None:
    feed = {"x": np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)}
    boxes = np.array([[0.0, 0.0, 3.0, 3.0], [1.0, 1.0, 2.0, 2.0]], np.float32)

    def build(mb: Any, x: Any) -> Any:
        same = {"x": x, "boxes": boxes, "box_indices": np.array([1, 0], np.int32)}
        return (
            mb.crop_resize(
                **same, target_height=4, target_width=4, sampling_mode="ALIGN_CORNERS", name="whole"
            ),
            mb.crop_resize(
                **same, target_height=1, target_width=1, sampling_mode="ALIGN_CORNERS", name="middle"
            ),
            mb.crop_resize(
                x=x,
                boxes=boxes - 9.0,
                target_height=1,
                target_width=1,
                pad_value=7.0,
                name="outside",
            ),
        )

    answers = evaluated(build, feed, target="iOS17").run(feed)
    np.testing.assert_allclose(answers["whole"][0, 0], feed["x"][1, 0])
    np.testing.assert_allclose(answers["middle"].reshape(-1), [16 + 7.5, 7.5])
    np.testing.assert_allclose(answers["outside"].reshape(-1), [7, 7])


def test_boxes_before_ios17_sample_every_picture(evaluated: Any) -> None:
    feed = {"x": normal(2, 3, 4, 5)}
    roi = np.array([1, 0, 3, 4], np.float32).reshape(1, 1, 4, 1, 1)

    def build(mb: Any, x: Any) -> Any:
        corners = {"target_height": 3, "target_width": 5, "sampling_mode": "STRICT_ALIGN_CORNERS"}
        return mb.crop_resize(x=x, roi=roi, **corners, name="y")

    answer = evaluated(build, feed, target="iOS16").run(feed)["y"]
    np.testing.assert_allclose(answer[0], feed["x"][:, :, 1:], atol=1e-6)


def test_suppression_keeps_the_best_of_overlapping_boxes(evaluated: Any) -> None:
    boxes = np.array([[0, 0, 2, 2], [0.1, 0, 2, 2], [5, 5, 1, 1], [9, 9, 1, 1]], np.float32)
    scores = np.array([[0.8], [0.9], [0.7], [0.1]], np.float32)
    feed = {"boxes": boxes[None], "scores": scores[None]}
    same = {"iou_threshold": 0.5, "max_boxes": 3}

    def old(mb: Any, boxes: Any, scores: Any) -> Any:
        kept = mb.non_maximum_suppression(boxes=boxes, scores=scores, score_threshold=0.5, **same)
        return tuple(mb.identity(x=value, name=f"y{i}") for i, value in enumerate(kept))

    def new(mb: Any, boxes: Any, scores: Any) -> Any:
        kept = mb.non_maximum_suppression(
            boxes=mb.transpose(x=boxes, perm=[0, 2, 1]), scores=mb.transpose(x=scores, perm=[0, 2, 1]), **same
        )
        return tuple(mb.identity(x=value, name=f"y{i}") for i, value in enumerate(kept))

    answer = evaluated(old, feed, target="iOS16").run(feed)
    np.testing.assert_array_equal(answer["y2"], [[1, 2, -1]])
    np.testing.assert_allclose(answer["y0"][0], [*boxes[[1, 2]], np.zeros(4)])
    np.testing.assert_array_equal(answer["y3"], [2])
    answer = evaluated(new, feed, target="iOS17").run(feed)
    np.testing.assert_array_equal(answer["y2"], [[1, 2, 3]])
    np.testing.assert_allclose(answer["y1"][0, 0], scores[[1, 2, 3], 0])


def test_recurrent_layers(compare: Any) -> None:
    torch.manual_seed(4)
    rnn, lstm = torch.nn.RNN(3, 4), torch.nn.LSTM(3, 4, bidirectional=True)
    one = torch.nn.LSTM(3, 4)
    gru = torch.nn.GRU(3, 4)

    def arrays(net: torch.nn.Module, *order: int, back: str = "") -> dict[str, Any]:
        last = f"l0{back}"
        state = {n.removesuffix(back): a.detach() for n, a in net.state_dict().items() if n.endswith(last)}

        def turned(tensor: torch.Tensor) -> np.ndarray:
            return torch.cat([tensor.chunk(len(order))[i] for i in order]).numpy().copy()

        return {
            "weight_ih": turned(state["weight_ih_l0"]),
            "weight_hh": turned(state["weight_hh_l0"]),
            "bias": turned(state["bias_ih_l0"] + state["bias_hh_l0"]),
        }

    both = arrays(lstm, 0, 1, 3, 2)
    both |= {f"{k}_back": v for k, v in arrays(lstm, 0, 1, 3, 2, back="_reverse").items()}
    split = {name: a.detach() for name, a in gru.state_dict().items()}
    order = [0, 2, 1]
    gates = {
        "weight_ih": torch.cat([split["weight_ih_l0"].chunk(3)[i] for i in order]).numpy(),
        "weight_hh": torch.cat([split["weight_hh_l0"].chunk(3)[i] for i in order]).numpy(),
        "bias": torch.cat([split["bias_hh_l0"].chunk(3)[i] for i in order]).numpy(),
        "input_bias": torch.cat([split["bias_ih_l0"].chunk(3)[i] for i in order]).numpy(),
    }

    def bidirectional(x: torch.Tensor, h2: torch.Tensor, c2: torch.Tensor, **_: Any) -> Any:
        def apart(t: torch.Tensor) -> torch.Tensor:
            return torch.stack(t.chunk(2, -1))

        y, (h, c) = lstm(x, (apart(h2), apart(c2)))
        return y, torch.cat(list(h), -1), torch.cat(list(c), -1)

    def backwards(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, **_: Any) -> Any:
        y, (last, memory) = one(x.flip(0), (h[None], c[None]))
        return y, last[0], memory[0]

    checks = [
        (
            "rnn",
            lambda mb, x, h, **_: mb.rnn(x=x, initial_h=h, output_sequence=True, **arrays(rnn, 0)),
            lambda x, h, **_: (rnn(x, h[None])[0], rnn(x, h[None])[1][0]),
        ),
        (
            "rnn_last",
            lambda mb, x, h, **_: mb.rnn(x=x, initial_h=h, direction="reverse", **arrays(rnn, 0))[0],
            lambda x, h, **_: rnn(x.flip(0), h[None])[1],
        ),
        (
            "gru",
            lambda mb, x, h, **_: mb.gru(x=x, initial_h=h, reset_after=True, output_sequence=True, **gates),
            lambda x, h, **_: (gru(x, h[None])[0], gru(x, h[None])[1][0]),
        ),
        (
            "lstm",
            lambda mb, x, h2, c2, **_: mb.lstm(
                x=x, initial_h=h2, initial_c=c2, direction="bidirectional", output_sequence=True, **both
            ),
            bidirectional,
        ),
        (
            "lstm_back",
            lambda mb, x, h, c, **_: mb.lstm(
                x=x, initial_h=h, initial_c=c, direction="reverse", output_sequence=True,
                **arrays(one, 0, 1, 3, 2),
            ),
            backwards,
        ),
    ]  # fmt: skip
    feed = {
        "x": normal(5, 2, 3),
        "h": normal(2, 4),
        "c": normal(2, 4),
        "h2": normal(2, 8),
        "c2": normal(2, 8),
    }
    with torch.no_grad():
        compare(checks, feed)


def test_a_gru_resets_before_the_product_by_default(evaluated: Any) -> None:
    feed = {"x": normal(4, 2, 3), "h": normal(2, 5)}
    w, r, b = normal(15, 3), normal(15, 5), normal(15)

    def build(mb: Any, x: Any, h: Any) -> Any:
        y, _ = mb.gru(x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b)
        return mb.identity(x=y, name="y")

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    h = feed["h"].astype(np.float64)
    for x in feed["x"]:
        reset = sigmoid(x @ w[:5].T + h @ r[:5].T + b[:5])
        update = sigmoid(x @ w[10:].T + h @ r[10:].T + b[10:])
        out = np.tanh(x @ w[5:10].T + (reset * h) @ r[5:10].T + b[5:10])
        h = (1 - update) * out + update * h
    np.testing.assert_allclose(evaluated(build, feed).run(feed)["y"][0], h, atol=1e-5)


def test_quantization(compare: Any) -> None:
    scale, zero = np.array([0.1, 0.2, 0.4], np.float32), np.array([3, -4, 0], np.int8)

    def there(mb: Any, x: Any, **options: Any) -> Any:
        return mb.cast(x=mb.quantize(input=x, **options), dtype="int32")

    def back(mb: Any, x: Any, **options: Any) -> Any:
        quantized = mb.quantize(input=x, output_dtype="int8", **options)
        return mb.dequantize(input=quantized, **options)

    def channels(x: torch.Tensor) -> torch.Tensor:
        return ((x / by_channel(scale)).round() + by_channel(zero)).clamp(-128, 127)

    def by_channel(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).reshape(3, 1)

    whole = {"scale": np.float32(0.5), "zero_point": np.uint8(100)}
    checks = [
        (
            "one",
            lambda mb, x: there(mb, x, output_dtype="uint8", **whole),
            lambda x: ((x / 0.5).round() + 100).clamp(0, 255).int(),
        ),
        (
            "many",
            lambda mb, x: there(mb, x, output_dtype="int8", scale=scale, zero_point=zero, axis=1),
            lambda x: channels(x).int(),
        ),
        (
            "back",
            lambda mb, x: back(mb, x, scale=scale, zero_point=zero, axis=1),
            lambda x: (channels(x) - by_channel(zero)) * by_channel(scale),
        ),
        (
            "plain",
            lambda mb, x: back(mb, x, scale=np.float32(0.25)),
            lambda x: (x / 0.25).round().clamp(-128, 127) * 0.25,
        ),
    ]
    # Some values lie on ties: 0.25 / 0.5, 0.75 / 0.5, which go to the even side.
    feed = {
        "x": np.concatenate([normal(2, 3, 4) * 30, np.full((2, 3, 2), [0.25, 0.75], np.float32)], -1).astype(
            np.float32
        )
    }
    compare(checks, feed)


def test_branches_and_loops(evaluated: Any) -> None:
    def build(mb: Any, x: Any) -> Any:
        large = mb.greater(x=mb.reduce_sum(x=x), y=0.0)
        branch = mb.cond(
            pred=large, _true_fn=lambda: mb.mul(x=x, y=2.0), _false_fn=lambda: mb.sub(x=x, y=1.0)
        )
        count, total = mb.while_loop(
            _cond=lambda i, _: mb.less(x=i, y=5),
            _body=lambda i, t: (mb.add(x=i, y=1), mb.add(x=t, y=x)),
            loop_vars=(mb.const(val=np.int32(0)), branch),
        )
        return mb.identity(x=branch, name="b"), mb.identity(x=total, name="t"), mb.identity(x=count, name="n")

    feed = {"x": np.array([1.0, -3.0], np.float32)}
    program = evaluated(build, feed)
    for sign in (1, -1):
        x = sign * feed["x"]
        answers = program.run({"x": x})
        branch = x * 2 if x.sum() > 0 else x - 1
        np.testing.assert_allclose(answers["b"], branch)
        np.testing.assert_allclose(answers["t"], branch + 5 * x)
        assert answers["n"].reshape(-1) == [5]


def test_lists(evaluated: Any) -> None:
    def build(mb: Any, x: Any) -> Any:
        made = mb.make_list(init_length=2, dynamic_length=True, elem_shape=(3,))
        written = mb.list_write(ls=made, index=0, value=x)
        longer = mb.list_write(ls=written, index=3, value=mb.mul(x=x, y=2.0))
        scattered = mb.list_scatter(ls=longer, indices=[1, 2], value=mb.stack(values=(x, x), axis=0))
        return (
            mb.list_gather(ls=scattered, indices=[0, 3, 1], name="g"),
            mb.list_read(ls=scattered, index=3, name="r"),
            mb.identity(x=mb.list_length(ls=scattered), name="n"),
        )

    feed = {"x": normal(3)}
    answers = evaluated(build, feed).run(feed)
    x = feed["x"]
    np.testing.assert_allclose(answers["g"], [x, 2 * x, x])
    np.testing.assert_allclose(answers["r"], 2 * x)
    assert answers["n"].reshape(-1) == [4]


def test_states_are_kept_between_runs(ct: Any, mb: Any, tmp_path: Any) -> None:
    from fourfold.export.quiet import quiet

    with quiet():
        from coremltools.converters.mil.mil import types

        specs = [mb.TensorSpec((3,), dtype=types.fp16), mb.StateTensorSpec((3,), dtype=types.fp16)]

        @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
        def accumulate(x: Any, s: Any) -> Any:
            total = mb.add(x=mb.read_state(input=s), y=x)
            return mb.mul(x=mb.coreml_update_state(state=s, value=total), y=np.float16(1), name="y")

        model = ct.convert(accumulate, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18)
        model.save(str(tmp_path / "net.mlpackage"))
    program = load_program(tmp_path / "net.mlpackage")
    x = np.array([1.0, 2.0, 3.0], np.float16)
    states = program.fresh_states()
    for i in (1, 2, 3):
        np.testing.assert_allclose(program.run({"x": x}, states=states)["y"], i * x)
    np.testing.assert_allclose(program.run({"x": x})["y"], x)


def test_what_is_drawn_at_random_is_the_same_at_every_run(evaluated: Any) -> None:
    def build(mb: Any, x: Any) -> Any:
        shape = [40, 50]
        return (
            mb.identity(x=mb.random_uniform(shape=shape, low=2.0, high=4.0), name="u"),
            mb.identity(x=mb.random_normal(shape=shape, mean=1.0, stddev=3.0, seed=7), name="n"),
            mb.identity(x=mb.random_bernoulli(shape=shape, prob=0.3), name="b"),
            mb.identity(x=mb.random_categorical(x=x, size=2000, mode="probs"), name="c"),
        )

    feed = {"x": np.array([[0.25, 0.75]], np.float32)}
    program = evaluated(build, feed)
    first, second = program.run(feed), program.run(feed)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert 2 <= first["u"].min() < 2.1 < 3.9 < first["u"].max() < 4
    assert abs(first["n"].mean() - 1) < 0.3
    assert abs(first["n"].std() - 3) < 0.3
    assert abs(first["b"].mean() - 0.3) < 0.05
    assert abs(first["c"].mean() - 0.75) < 0.05


def test_a_position_outside_is_refused(evaluated: Any) -> None:
    feed = {"x": normal(3, 2), "i": np.array([0, 3], np.int32)}
    program = evaluated(lambda mb, x, i: mb.gather(x=x, indices=i, name="picked"), feed)
    with pytest.raises(
        BuildError, match=r"operator 'picked' \(gather\) to evaluate, got: .* within 3, got 0 to 3"
    ):
        program.run(feed)


def test_a_shape_that_no_network_needs_is_refused(evaluated: Any) -> None:
    feed = {"i": np.array([60000, 60000], np.int32)}
    program = evaluated(lambda mb, i: mb.fill(shape=i, value=1.0, name="y"), feed)
    with pytest.raises(BuildError, match=r"at most 268435456 values, got shape \(60000, 60000\)"):
        program.run(feed)


def test_a_large_picture_may_double_its_size() -> None:
    small = torch.arange(21 * 256 * 256, dtype=torch.float32).reshape(1, 21, 256, 256)
    large = resize_bilinear(small, 512, 512, "UNALIGN_CORNERS")
    wanted = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(large, wanted)


def test_a_size_that_no_network_needs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 268435456 values, got shape \(1, 1, 70000, 4000\)"):
        resize_bilinear(torch.zeros(1, 1, 4, 4000), 70000, 4000)
