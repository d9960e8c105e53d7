import numpy as np
import pytest

STATISTICS = {"g": (4,), "b": (4,), "m": (4,), "v": np.array([0.5, 1.0, 2.0, 0.1], np.float32)}
NORM = "y = BatchNormalization(h, g, b, m, v)"


# fold_batch_norm


@pytest.mark.parametrize(
    ("host", "weights", "x"),
    [
        ("h = Conv(x, w)", {"w": (4, 4, 3, 3)}, "batch, 4, 6, 6"),
        ("h = Conv<group=2>(x, w, c)", {"w": (4, 2, 3, 3), "c": (4,)}, "batch, 4, 6, 6"),
        ("h = ConvTranspose(x, w, c)", {"w": (3, 4, 2, 2), "c": (4,)}, "batch, 3, 6, 6"),
        ("h = Gemm(x, w, c)", {"w": (5, 4), "c": (1, 4)}, "batch, 5"),
        ("h = Gemm<transB=1>(x, w)", {"w": (4, 5)}, "batch, 5"),
    ],
)
def test_a_batch_norm_goes_into_the_weights_before_it(apply, host, weights, x) -> None:
    found = apply("fold_batch_norm", f"{host} {NORM}", x=x, **weights, **STATISTICS)
    assert found.operators == [host.split()[2].split("(")[0].split("<")[0]]
    assert found.exported.history[-1].changed == 1
    assert found.before.graph.num_nodes() == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"h = Relu(x) {NORM}", "no convolution or Gemm"),
        ("h = Conv(x, w) n = BatchNormalization(h, g, b, m, v) y = Add(n, h)", "read in a second place"),
        ("h = Conv(x, w) n = BatchNormalization(h, g, b, m, v) y = Conv(n, w)", "shared with another node"),
        ("k = Relu(w) h = Conv(x, k) y = BatchNormalization(h, g, b, m, v)", "not constants"),
        ("k = Relu(g) h = Conv(x, w) y = BatchNormalization(h, k, b, m, v)", "statistics are not constants"),
    ],
)
def test_a_batch_norm_that_stays_says_why(apply, body, reason) -> None:
    found = apply("fold_batch_norm", body, w=(4, 4, 1, 1), **STATISTICS)
    assert "BatchNormalization" in found.operators
    assert reason in found.reasons


# fold_scale


@pytest.mark.parametrize(
    ("body", "weights", "x", "after"),
    [
        (
            "h = Conv(x, w, c) i = Mul(h, s) y = Add(i, t)",
            {"w": (5, 4, 3, 3), "c": (5,), "s": (1, 5, 1, 1), "t": (5, 1, 1)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        (
            "h = Conv(x, w) i = Div(h, s) y = Sub(t, i)",
            {"w": (5, 4, 3, 3), "s": (5, 1, 1), "t": (1,)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        (
            "h = MatMul(x, w) i = Add(h, c) y = Mul(i, s)",
            {"w": (4, 5), "c": (5,), "s": (1, 1, 5)},
            "batch, 7, 4",
            ["MatMul", "Add"],
        ),
        ("h = MatMul(x, w) y = Mul(s, h)", {"w": (4, 5), "s": (5,)}, "batch, 7, 4", ["MatMul"]),
        (
            "h = Gemm<transB=1>(x, w, c) y = Mul(h, s)",
            {"w": (5, 4), "c": (5,), "s": (5,)},
            "batch, 4",
            ["Gemm"],
        ),
        (
            "h = Mul(x, s) y = Conv<group=2>(h, w)",
            {"w": (6, 2, 3, 3), "s": (4, 1, 1)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        ("h = Mul(x, s) y = MatMul(h, w)", {"w": (4, 5), "s": (4,)}, "batch, 7, 4", ["MatMul"]),
        ("h = Mul(x, s) y = Gemm<transB=1>(h, w)", {"w": (5, 4), "s": (4,)}, "batch, 4", ["Gemm"]),
        (
            "h = Mul(x, s) y = ConvTranspose(h, w)",
            {"w": (4, 2, 3, 3), "s": (4, 1, 1)},
            "batch, 4, 6, 6",
            ["ConvTranspose"],
        ),
        (
            "h = Conv(x, w) i = Transpose<perm=[0,2,3,1]>(h) y = Mul(i, s)",
            {"w": (5, 4, 1, 1), "s": ()},
            "batch, 4, 6, 6",
            ["Conv", "Transpose"],
        ),
        # The factor of the right side moves to the left side, where weights take it.
        (
            "q = MatMul(x, w) k = Transpose<perm=[0,2,1]>(x) i = Mul(k, s) y = MatMul(q, i)",
            {"w": (4, 4), "s": (1,)},
            "batch, 7, 4",
            ["MatMul", "Transpose", "MatMul"],
        ),
        # Neither side has weights: two factors become one.
        (
            "q = Mul(x, s) k = Transpose<perm=[0,2,1]>(x) i = Mul(k, s) y = MatMul(q, i)",
            {"s": (1,)},
            "batch, 7, 4",
            ["Transpose", "Mul", "MatMul"],
        ),
    ],
)
def test_factors_and_offsets_go_into_the_weights(apply, body, weights, x, after) -> None:
    found = apply("fold_scale", body, x=x, **weights)
    assert found.operators == after


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("h = Relu(x) y = Mul(h, s)", {"s": (4, 1, 1)}, "no weights stand before it"),
        ("h = Conv(x, w) y = Mul(h, s)", {"w": (4, 4, 1, 1), "s": (6,)}, "not one number per output channel"),
        ("h = Conv(x, w) i = Mul(h, s) y = Add(h, i)", {"w": (4, 4, 1, 1), "s": (1,)}, "second place"),
        ("h = MatMul(x, w) i = Sub(h, s) y = Relu(i)", {"w": (6, 6), "s": (6,)}, "no bias to take an offset"),
        ("h = Add(x, s) y = Conv<pads=[1,1,1,1]>(h, w)", {"w": (4, 4, 3, 3), "s": (4, 1, 1)}, "no weights"),
    ],
)
def test_a_factor_that_stays_says_why(apply, body, weights, reason) -> None:
    found = apply("fold_scale", body, **weights)
    assert found.operators == [node.op_type for node in found.before.graph]
    assert reason in found.reasons


def test_one_divided_by_the_network_is_not_a_factor(apply) -> None:
    found = apply("fold_scale", "h = Conv(x, w) y = Div(s, h)", w=(4, 4, 1, 1), s=(1,))
    assert found.operators == ["Conv", "Div"]


# fold_identity


@pytest.mark.parametrize(
    ("body", "weights", "x", "after"),
    [
        (
            "h = Conv<group=4, pads=[1,1,1,1]>(x, w, c) y = Add(h, x)",
            {"w": (4, 1, 3, 3), "c": (4,)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        (
            "h = Conv<pads=[2,1,2,1], dilations=[1,1]>(x, w) y = Add(x, h)",
            {"w": (4, 4, 5, 3)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        (
            "h = Conv<group=2, pads=[2,2,2,2], dilations=[2,2]>(x, w) y = Add(x, h)",
            {"w": (4, 2, 3, 3)},
            "batch, 4, 6, 6",
            ["Conv"],
        ),
        (
            "t = Transpose<perm=[0,2,1]>(x) h = Conv<group=4, pads=[1,1]>(t, w) "
            "u = Transpose<perm=[0,2,1]>(h) y = Add(x, u)",
            {"w": (4, 1, 3)},
            "batch, 9, 4",
            ["Transpose", "Conv", "Transpose"],
        ),
    ],
)
def test_a_short_cut_goes_into_the_kernel(apply, body, weights, x, after) -> None:
    found = apply("fold_identity", body, x=x, **weights)
    assert found.operators == after
    assert found.exported.history[-1].changed == 1


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("h = Conv(x, w) y = Add(h, x)", {"w": (1, 4, 1, 1)}, "another number of channels"),
        ("h = Conv<pads=[1,1,0,0]>(x, w) y = Add(h, x)", {"w": (4, 4, 2, 2)}, "even kernel"),
        ("h = Conv<pads=[2,2,0,0]>(x, w) y = Add(h, x)", {"w": (4, 4, 3, 3)}, "not padded by half"),
        ("h = Conv(x, w) r = Relu(h) i = Add(h, x) y = Add(i, r)", {"w": (4, 4, 1, 1)}, "second place"),
        ("h = Conv(x, w) i = Add(h, x) y = Conv(i, w)", {"w": (4, 4, 1, 1)}, "shared with another node"),
    ],
)
def test_a_short_cut_that_stays_says_why(apply, body, weights, reason) -> None:
    found = apply("fold_identity", body, **weights)
    assert found.operators == [node.op_type for node in found.before.graph]
    assert reason in found.reasons


def test_a_residual_around_more_than_one_operator_is_no_short_cut(apply) -> None:
    found = apply("fold_identity", "r = Relu(x) h = Conv(r, w) y = Add(h, x)", w=(4, 4, 1, 1))
    assert found.operators == ["Relu", "Conv", "Add"]


# fold_branches


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (
            "a = Conv<pads=[1,1,1,1]>(x, w, c) b = Conv(x, u) y = Add(a, b)",
            {"w": (5, 4, 3, 3), "c": (5,), "u": (5, 4, 1, 1)},
        ),
        (
            "a = Conv<strides=[2,2]>(x, u, d) b = Conv<strides=[2,2], pads=[1,2,1,2]>(x, w, c) "
            "e = Add(a, b) i = Conv<strides=[2,2], pads=[1,1,1,1]>(x, v) y = Add(i, e)",
            {"w": (5, 4, 3, 5), "c": (5,), "u": (5, 4, 1, 1), "d": (5,), "v": (5, 4, 3, 3)},
        ),
        (
            "a = Conv<group=4, dilations=[2,2], pads=[2,2,2,2]>(x, w) "
            "b = Conv<group=4, dilations=[2,2]>(x, u, c) y = Add(a, b)",
            {"w": (4, 1, 3, 3), "u": (4, 1, 1, 1), "c": (4,)},
        ),
    ],
)
def test_parallel_convolutions_become_one(apply, body, weights) -> None:
    assert apply("fold_branches", body, **weights).operators == ["Conv"]


def test_a_reparameterizable_block_becomes_one_convolution(apply) -> None:
    body = f"""
    a = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization(a, g, b, m, v)
    c = Conv(x, u) o = Add(n, c) h = Add(o, x) {NORM}"""
    names = "fold_batch_norm fold_branches fold_identity fold_batch_norm"
    found = apply(names, body, w=(4, 4, 3, 3), u=(4, 4, 1, 1), **STATISTICS)
    assert found.operators == ["Conv"]


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        (
            "a = Conv<pads=[2,2,0,0]>(x, w) b = Conv(x, u) y = Add(a, b)",
            {"w": (5, 4, 3, 3), "u": (5, 4, 1, 1)},
            "the place they look at",
        ),
        (
            "a = Conv<pads=[1,0,1,0]>(x, w) b = Conv<pads=[0,1,0,1]>(x, u) y = Add(a, b)",
            {"w": (5, 4, 3, 1), "u": (5, 4, 1, 3)},
            "neither kernel contains",
        ),
        (
            "a = Conv(x, w) b = Conv(x, u) i = Relu(a) j = Add(a, b) y = Add(i, j)",
            {"w": (5, 4, 1, 1), "u": (5, 4, 1, 1)},
            "second place",
        ),
        ("a = Conv(x, w) y = Add(a, a)", {"w": (5, 4, 1, 1)}, "same convolution"),
    ],
)
def test_branches_that_stay_say_why(apply, body, weights, reason) -> None:
    found = apply("fold_branches", body, **weights)
    assert found.operators == [node.op_type for node in found.before.graph]
    assert reason in found.reasons


# merge_transposes


@pytest.mark.parametrize(
    ("body", "x", "after"),
    [
        (
            "h = Transpose<perm=[0,2,1]>(x) i = Transpose<perm=[0,2,1]>(h) y = Relu(i)",
            "batch, 7, 4",
            ["Relu"],
        ),
        (
            "h = Transpose<perm=[0,2,3,1]>(x) y = Transpose<perm=[0,2,3,1]>(h)",
            "batch, 4, 6, 5",
            ["Transpose"],
        ),
        (
            "s = Constant<value_ints=[-1, 6, 5]>() h = Reshape(x, s) i = Transpose<perm=[0,2,1]>(h) "
            "r = Constant<value_ints=[-1, 4, 5, 6]>() y = Reshape(i, r)",
            "batch, 4, 6, 5",
            ["Transpose"],
        ),
        ("h = Transpose<perm=[0,2,3,1]>(x) y = Flatten(h)", "batch, 4, 1, 1", ["Reshape"]),
        (
            "s = Constant<value_ints=[0, -1]>() h = Reshape(x, s) r = Constant<value_ints=[0, 4, 30]>() "
            "y = Reshape(h, r)",
            "batch, 4, 6, 5",
            ["Reshape"],
        ),
        (
            "a = Constant<value_ints=[2]>() h = Unsqueeze(x, a) i = Squeeze(h, a) y = Relu(i)",
            "batch, 7, 4",
            ["Relu"],
        ),
        ("s = Constant<value_ints=[0, 7, 4]>() h = Reshape(x, s) y = Relu(h)", "batch, 7, 4", ["Relu"]),
    ],
)
def test_layout_chains_become_the_shortest_that_does_the_same(apply, body, x, after) -> None:
    found = apply("fold_constants merge_transposes", body, x=x)
    assert found.operators == after


def test_a_part_of_a_chain_that_someone_reads_stays(apply) -> None:
    body = "h = Transpose<perm=[0,2,1]>(x) i = Transpose<perm=[0,2,1]>(h) r = Relu(h) y = MatMul(r, i)"
    assert apply("merge_transposes", body, x="batch, 7, 4").operators == ["Transpose", "Relu", "MatMul"]


@pytest.mark.parametrize(
    ("body", "x", "reason"),
    [
        (
            "s = Constant<value_ints=[-1, 6, 5]>() h = Reshape(x, s) y = Transpose<perm=[0,2,1]>(h)",
            "batch, 4, 6, 5",
            "",
        ),
        (
            "t = Transpose(x) r = Relu(t) s = Shape(r) h = Reshape(x, s) y = Transpose(h)",
            "batch, width",
            "not known ahead of time",
        ),
    ],
)
def test_a_chain_that_cannot_be_shortened_stays(apply, body, x, reason) -> None:
    found = apply("fold_constants merge_transposes", body, x=x)
    assert found.operators[-2:] == ["Reshape", "Transpose"]
    assert reason in found.reasons


# static_shapes


def test_shapes_that_depend_on_the_batch_only_become_constants(apply) -> None:
    body = """
    s = Shape(x) zero = Constant<value_ints=[0]>() two = Constant<value_ints=[2]>()
    three = Constant<value_ints=[3]>() four = Constant<value_ints=[4]>()
    head = Slice(s, zero, two) h = Slice(s, two, three) w = Slice(s, three, four)
    target = Concat<axis=0>(head, w, h) y = Reshape(x, target)"""
    found = apply("fold_constants static_shapes tidy", body, x="batch, 4, 6, 5")
    assert found.operators == ["Reshape"]
    assert found.after.graph.node(0).inputs[1].const_value.numpy().tolist() == [-1, 4, 5, 6]


def test_padding_computed_from_the_image_becomes_a_constant_and_joins_its_convolution(apply) -> None:
    body = """
    s = Shape<start=2, end=3>(x) f = Cast<to=1>(s) two = Constant<value_floats=[2.0]>()
    half = Div(f, two)
    up = Ceil(half) u = Cast<to=7>(up) both = Constant<value_ints=[2]>() twice = Mul(u, both)
    more = Sub(twice, s) zeros = Constant<value_ints=[0, 0]>()
    pads = Concat<axis=0>(zeros, zeros, zeros, more, more) p = Pad(x, pads) y = Conv(p, w)"""
    found = apply("fold_constants static_shapes simplify tidy", body, x="batch, 4, 7, 7", w=(2, 4, 3, 3))
    assert found.operators == ["Conv"]
    assert list(found.after.graph.node(0).attributes["pads"].value) == [0, 0, 1, 1]


def test_a_shape_with_two_free_dimensions_stays(apply) -> None:
    body = "s = Shape(x) y = Reshape(x, s)"
    found = apply("static_shapes", body, x="batch, width")
    assert found.operators == ["Shape", "Reshape"]
    assert "2 parts that depend on free dimensions" in found.reasons


def test_a_target_that_leaves_the_rest_open_gets_no_second_one(apply) -> None:
    body = """
    s = Shape<start=0, end=1>(x) rest = Constant<value_ints=[-1]>() six = Constant<value_ints=[6]>()
    target = Concat<axis=0>(s, rest, six) y = Reshape(x, target)"""
    found = apply("fold_constants static_shapes", body, x="batch, 4, 6, 5")
    assert "2 parts that depend" in found.reasons


# merge_parallel


@pytest.mark.parametrize(
    ("names", "body", "weights", "x", "after"),
    [
        (
            "merge_parallel_matmul",
            "h = MatMul(x, w) a = Add(h, p) i = MatMul(x, u) b = Add(i, q) y = Mul(a, b)",
            {"w": (4, 3), "u": (4, 3), "p": (3,), "q": (3,)},
            "batch, 7, 4",
            ["MatMul", "Add", "Split", "Mul"],
        ),
        (
            "merge_parallel_conv",
            "a = Conv<strides=[2,2]>(x, w) b = Conv<strides=[2,2]>(x, u, q) y = Concat<axis=1>(b, a)",
            {"w": (3, 4, 2, 2), "u": (5, 4, 2, 2), "q": (5,)},
            "batch, 4, 6, 6",
            ["Conv", "Split", "Concat"],
        ),
    ],
)
def test_products_of_one_input_are_merged(apply, names, body, weights, x, after) -> None:
    assert apply(names, body, x=x, **weights).operators == after


@pytest.mark.parametrize(
    ("names", "body", "weights", "reason"),
    [
        (
            "merge_parallel_matmul",
            "a = MatMul(x, w) b = MatMul(x, u) y = Concat<axis=1>(a, b)",
            {"w": (6, 9), "u": (6, 9)},
            "splitting 9 outputs costs more",
        ),
        (
            "merge_parallel_conv",
            "a = Conv<group=4>(x, w) b = Conv<group=4>(x, u) y = Add(a, b)",
            {"w": (4, 1, 3, 3), "u": (4, 1, 3, 3)},
            "grouped",
        ),
    ],
)
def test_products_that_stay_apart_say_why(apply, names, body, weights, reason) -> None:
    found = apply(names, body, **weights)
    assert found.operators == [node.op_type for node in found.before.graph]
    assert reason in found.reasons


def test_convolutions_with_different_strides_are_no_group(apply) -> None:
    body = "a = Conv(x, w) b = Conv<pads=[1,1,1,1]>(x, u) y = Add(a, b)"
    found = apply("merge_parallel_conv", body, w=(3, 4, 1, 1), u=(3, 4, 3, 3))
    assert found.operators == ["Conv", "Conv", "Add"]


# transpose_through_matmul


@pytest.mark.parametrize(
    ("body", "weights", "x", "after"),
    [
        (
            "h = MatMul(x, w) i = Add(h, b) y = Transpose<perm=[0,2,1]>(i)",
            {"w": (4, 9), "b": (9,)},
            "batch, 7, 4",
            ["Transpose", "MatMul", "Add"],
        ),
        (
            "t = Transpose<perm=[0,2,1]>(x) h = MatMul(t, w) y = Add(h, b)",
            {"w": (7, 3), "b": (3,)},
            "batch, 7, 4",
            ["MatMul", "Add", "Transpose"],
        ),
        (
            "h = MatMul(x, w) i = Add(h, b) y = Transpose<perm=[0,3,1,2]>(i)",
            {"w": (4, 9), "b": (9,)},
            "batch, 5, 6, 4",
            ["Transpose", "Conv"],
        ),
        (
            "t = Transpose<perm=[0,2,3,1]>(x) y = MatMul(t, w)",
            {"w": (7, 3)},
            "batch, 7, 5, 6",
            ["Conv", "Transpose"],
        ),
    ],
)
def test_a_transpose_moves_to_the_narrow_side(apply, body, weights, x, after) -> None:
    assert apply("transpose_through_matmul", body, x=x, **weights).operators == after


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("h = MatMul(x, w) y = Transpose<perm=[0,2,1]>(h)", {"w": (4, 3)}, "not wider"),
        ("t = Transpose<perm=[0,2,1]>(x) y = MatMul(t, w)", {"w": (7, 8)}, "not narrower"),
        ("h = MatMul(x, w) t = Transpose<perm=[0,2,1]>(h) y = MatMul(h, t)", {"w": (4, 9)}, "second place"),
    ],
)
def test_a_transpose_that_stays_says_why(apply, body, weights, reason) -> None:
    found = apply("transpose_through_matmul", body, x="batch, 7, 4", **weights)
    assert found.operators == [node.op_type for node in found.before.graph]
    assert reason in found.reasons


# tidy, simplify, fold_constants


def test_what_has_no_effect_or_no_reader_goes(apply) -> None:
    body = """
    one = Constant<value_float=1.0>() h = Mul(x, one) i = Identity(h) d = Dropout(i)
    a = Relu(d) b = Relu(d) unread = Exp(a) y = Add(a, b)"""
    found = apply("fold_constants simplify tidy", body)
    assert found.operators == ["Relu", "Add"]


def test_a_quantized_constant_is_not_folded(apply) -> None:
    body = "w = DequantizeLinear(q, s) y = MatMul(x, w)"
    q = np.arange(20, dtype=np.int8).reshape(4, 5)
    found = apply("fold_constants", body, x="batch, 4", q=q, s=np.float32(0.1))
    assert found.operators == ["DequantizeLinear", "MatMul"]
