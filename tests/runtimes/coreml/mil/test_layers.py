"""Convolutions, pools, normalizations and products, beside torch and beside what coremltools infers."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

rng = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def test_convolutions(compare: Any) -> None:
    w, w1, w3, odd, deep = (
        normal(6, 4, 3, 3),
        normal(6, 4, 3),
        normal(4, 4, 2, 2, 2),
        normal(6, 2, 3, 2),
        normal(8, 1, 3, 3),
    )
    bias = normal(6)
    t = {name: torch.from_numpy(a) for name, a in locals().items() if isinstance(a, np.ndarray)}
    checks = [
        ("plain", lambda mb, x, **_: mb.conv(x=x, weight=w), lambda x, **_: F.conv2d(x, t["w"])),
        (
            "custom",
            lambda mb, x, **_: mb.conv(
                x=x, weight=w, bias=bias, pad_type="custom", pad=[1, 2, 0, 3], strides=[2, 1]
            ),
            lambda x, **_: F.conv2d(F.pad(x, (0, 3, 1, 2)), t["w"], t["bias"], (2, 1)),
        ),
        (
            "same",
            lambda mb, x, **_: mb.conv(
                x=x, weight=odd, groups=2, pad_type="same", strides=[2, 2], dilations=[1, 1]
            ),
            lambda x, **_: F.conv2d(F.pad(x, (0, 1, 0, 1)), t["odd"], stride=2, groups=2),
        ),
        (
            "same_lower",
            lambda mb, x, **_: mb.conv(x=x, weight=odd, groups=2, pad_type="same_lower", strides=[2, 2]),
            lambda x, **_: F.conv2d(F.pad(x, (1, 0, 1, 0)), t["odd"], stride=2, groups=2),
        ),
        (
            "dilated",
            lambda mb, x, **_: mb.conv(x=x, weight=deep, groups=4, dilations=[2, 2], pad_type="same"),
            lambda x, **_: F.conv2d(x, t["deep"], padding=2, dilation=2, groups=4),
        ),
        ("one", lambda mb, line, **_: mb.conv(x=line, weight=w1), lambda line, **_: F.conv1d(line, t["w1"])),
        (
            "three",
            lambda mb, cube, **_: mb.conv(x=cube, weight=w3),
            lambda cube, **_: F.conv3d(cube, t["w3"]),
        ),
        (
            "given",
            lambda mb, x, **_: mb.conv(x=x, weight=mb.add(x=w, y=mb.reduce_mean(x=x))),
            lambda x, **_: F.conv2d(x, t["w"] + x.mean()),
        ),
    ]
    compare(
        checks,
        {"x": normal(2, 4, 8, 7), "line": normal(2, 4, 9), "cube": normal(1, 4, 5, 6, 4)},
        tolerance=1e-4,
    )


def test_transposed_convolutions(compare: Any) -> None:
    w, grouped, line = normal(4, 6, 3, 3), normal(4, 3, 2, 4), normal(4, 2, 4)
    t = {name: torch.from_numpy(a) for name, a in locals().items() if isinstance(a, np.ndarray)}
    checks = [
        (
            "plain",
            lambda mb, x, **_: mb.conv_transpose(x=x, weight=w),
            lambda x, **_: F.conv_transpose2d(x, t["w"]),
        ),
        (
            "custom",
            lambda mb, x, **_: mb.conv_transpose(
                x=x, weight=w, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]
            ),
            lambda x, **_: F.conv_transpose2d(x, t["w"], stride=2, padding=1),
        ),
        (
            "uneven",
            lambda mb, x, **_: mb.conv_transpose(
                x=x, weight=w, strides=[2, 1], pad_type="custom", pad=[0, 1, 2, 0]
            ),
            lambda x, **_: F.conv_transpose2d(x, t["w"], stride=(2, 1))[:, :, :-1, 2:],
        ),
        (
            "wider",
            lambda mb, x, **_: mb.conv_transpose(
                x=x,
                weight=w,
                strides=[2, 2],
                pad_type="custom",
                pad=[1, 1, 1, 1],
                output_shape=[2, 6, 10, 14],
            ),
            lambda x, **_: F.conv_transpose2d(x, t["w"], stride=2, padding=1, output_padding=1),
        ),
        (
            "grouped",
            lambda mb, x, **_: mb.conv_transpose(
                x=x, weight=grouped, groups=2, dilations=[2, 1], strides=[1, 3]
            ),
            lambda x, **_: F.conv_transpose2d(x, t["grouped"], stride=(1, 3), dilation=(2, 1), groups=2),
        ),
        (
            "same",
            lambda mb, x, **_: mb.conv_transpose(x=x, weight=w, strides=[2, 2], pad_type="same"),
            lambda x, **_: F.conv_transpose2d(x, t["w"], stride=2)[:, :, 0:10, 0:14],
        ),
        (
            "one",
            lambda mb, z, **_: mb.conv_transpose(x=z, weight=line, strides=[2]),
            lambda z, **_: F.conv_transpose1d(z, t["line"], stride=2),
        ),
    ]
    compare(checks, {"x": normal(2, 4, 5, 7), "z": normal(1, 4, 6)}, tolerance=1e-4)


def test_pools(compare: Any) -> None:
    def pool(kind: str, **options: Any) -> Any:
        return lambda mb, x, **_: getattr(mb, kind)(x=x, **options)

    two = {"kernel_sizes": [3, 2], "strides": [2, 2]}
    padded = {**two, "pad_type": "custom", "pad": [1, 1, 1, 1]}
    checks = [
        ("max", pool("max_pool", pad_type="valid", **two), lambda x, **_: F.max_pool2d(x, (3, 2), 2)),
        (
            "max_pad",
            pool("max_pool", **padded),
            lambda x, **_: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-9e9), (3, 2), 2),
        ),
        (
            "max_same",
            pool("max_pool", pad_type="same", **two),
            lambda x, **_: F.max_pool2d(F.pad(x, (0, 0, 0, 1), value=-9e9), (3, 2), 2),
        ),
        ("mean", pool("avg_pool", pad_type="valid", **two), lambda x, **_: F.avg_pool2d(x, (3, 2), 2)),
        ("mean_pad", pool("avg_pool", **padded), lambda x, **_: F.avg_pool2d(x, (3, 2), 2, 1)),
        (
            "mean_inside",
            pool("avg_pool", exclude_padding_from_average=True, **padded),
            lambda x, **_: F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False),
        ),
        (
            "mean_ceil",
            pool("avg_pool", ceil_mode=True, **{**padded, "kernel_sizes": [3, 3]}),
            lambda x, **_: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        ),
        (
            "mean_ceil_inside",
            pool(
                "avg_pool",
                ceil_mode=True,
                exclude_padding_from_average=True,
                **{**padded, "kernel_sizes": [3, 3]},
            ),
            lambda x, **_: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        ),
        (
            "max_ceil",
            pool("max_pool", ceil_mode=True, **{**padded, "kernel_sizes": [2, 2]}),
            lambda x, **_: F.max_pool2d(x, 2, 2, 1, ceil_mode=True),
        ),
        (
            "root",
            pool("l2_pool", pad_type="valid", **two),
            lambda x, **_: (F.avg_pool2d(x * x, (3, 2), 2) * 6).sqrt(),
        ),
        (
            "one",
            lambda mb, line, **_: mb.max_pool(x=line, kernel_sizes=[3], pad_type="same_lower", strides=[1]),
            lambda line, **_: F.max_pool1d(line, 3, 1, 1),
        ),
        (
            "three",
            lambda mb, cube, **_: mb.avg_pool(x=cube, kernel_sizes=[2, 2, 2], pad_type="valid"),
            lambda cube, **_: F.avg_pool3d(cube, 2, 1),
        ),
    ]
    compare(checks, {"x": normal(2, 3, 8, 8) - 2, "line": normal(1, 2, 7), "cube": normal(1, 2, 4, 3, 5)})


def test_norms(compare: Any) -> None:
    mean, variance, gamma, beta = normal(4), rng.uniform(0.5, 2, 4).astype(np.float32), normal(4), normal(4)
    gain, shift = normal(5, 6), normal(5, 6)
    t = {name: torch.from_numpy(a) for name, a in locals().items() if isinstance(a, np.ndarray)}

    def batch(x: Any, **_: Any) -> Any:
        return F.batch_norm(x, t["mean"], t["variance"], t["gamma"], t["beta"], eps=1e-3)

    checks = [
        (
            "batch",
            lambda mb, x, **_: mb.batch_norm(
                x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=np.float32(1e-3)
            ),
            batch,
        ),
        (
            "batch_plain",
            lambda mb, line, **_: mb.batch_norm(x=line, mean=mean, variance=variance),
            lambda line, **_: F.batch_norm(line, t["mean"], t["variance"]),
        ),
        (
            "instance",
            lambda mb, x, **_: mb.instance_norm(x=x, gamma=gamma, beta=beta),
            lambda x, **_: F.instance_norm(x, weight=t["gamma"], bias=t["beta"]),
        ),
        ("instance_plain", lambda mb, x, **_: mb.instance_norm(x=x), lambda x, **_: F.instance_norm(x)),
        (
            "layer",
            lambda mb, x, **_: mb.layer_norm(
                x=x, axes=[-1, -2], gamma=gain, beta=shift, epsilon=np.float32(1e-2)
            ),
            lambda x, **_: F.layer_norm(x, (5, 6), t["gain"], t["shift"], 1e-2),
        ),
        (
            "layer_channels",
            lambda mb, x, **_: mb.layer_norm(x=x, axes=[1], gamma=gamma, beta=beta),
            lambda x, **_: F.layer_norm(x.movedim(1, -1), (4,), t["gamma"], t["beta"]).movedim(-1, 1),
        ),
        (
            "layer_all",
            lambda mb, x, **_: mb.layer_norm(x=x, axes=[0, 1, 2, 3]),
            lambda x, **_: F.layer_norm(x, x.shape),
        ),
        (
            "l2",
            lambda mb, x, **_: mb.l2_norm(x=x, epsilon=np.float32(0.1)),
            lambda x, **_: x / (x.square().sum((1, 2, 3), True) + 0.1).sqrt(),
        ),
        (
            "response",
            lambda mb, x, **_: mb.local_response_norm(x=x, size=3, alpha=0.5, beta=0.6, k=2.0),
            lambda x, **_: F.local_response_norm(x, 3, 0.5, 0.6, 2.0),
        ),
    ]
    compare(checks, {"x": normal(2, 4, 5, 6), "line": normal(3, 4, 7)}, tolerance=3e-5)


def test_products(compare: Any) -> None:
    w, bias = normal(5, 6), normal(5)
    whole = rng.integers(-9, 9, size=(5, 6)).astype(np.int32)
    checks = [
        (
            "linear",
            lambda mb, x, **_: mb.linear(x=x, weight=w, bias=bias),
            lambda x, **_: F.linear(x, torch.from_numpy(w), torch.from_numpy(bias)),
        ),
        (
            "linear_plain",
            lambda mb, x, **_: mb.linear(x=x, weight=w),
            lambda x, **_: x @ torch.from_numpy(w).T,
        ),
        ("matmul", lambda mb, x, y, **_: mb.matmul(x=x, y=y), lambda x, y, **_: x @ y),
        (
            "turned",
            lambda mb, x, y, **_: mb.matmul(x=y, y=x, transpose_x=True, transpose_y=True),
            lambda x, y, **_: y.mT @ x.mT,
        ),
        ("vector", lambda mb, v, y, **_: mb.matmul(x=v, y=y), lambda v, y, **_: v @ y),
        ("whole", lambda mb, i, **_: mb.matmul(x=i, y=i, transpose_y=True), lambda i, **_: i @ i.mT),
        (
            "mixed",
            lambda mb, x, **_: mb.matmul(x=x, y=whole.T),
            lambda x, **_: x @ torch.from_numpy(whole.T).float(),
        ),
        (
            "linear_mixed",
            lambda mb, x, **_: mb.linear(x=x, weight=whole, bias=whole[:, 0].copy()),
            lambda x, **_: F.linear(
                x, torch.from_numpy(whole).float(), torch.from_numpy(whole[:, 0]).float()
            ),
        ),
        (
            "einsum",
            lambda mb, a, b, **_: mb.einsum(values=(a, b), equation="nchw,nwhu->nchu"),
            lambda a, b, **_: torch.einsum("nchw,nwhu->nchu", a, b),
        ),
        (
            "attention",
            lambda mb, q, k, **_: mb.scaled_dot_product_attention(query=q, key=k, value=k),
            lambda q, k, **_: F.scaled_dot_product_attention(q, k, k),
        ),
        (
            "attention_mask",
            lambda mb, q, k, mask, **_: mb.scaled_dot_product_attention(
                query=q, key=k, value=k, attn_mask=mb.greater(x=mask, y=-0.5)
            ),
            lambda q, k, mask, **_: F.scaled_dot_product_attention(q, k, k, mask > -0.5),
        ),
        (
            "attention_added",
            lambda mb, q, k, mask, **_: mb.scaled_dot_product_attention(
                query=q, key=k, value=k, attn_mask=mask
            ),
            lambda q, k, mask, **_: F.scaled_dot_product_attention(q, k, k, mask),
        ),
    ]
    feed = {
        "x": normal(3, 4, 6),
        "y": normal(1, 6, 2),
        "v": normal(6),
        "i": rng.integers(-9, 9, size=(3, 4)).astype(np.int32),
        "a": normal(2, 3, 4, 5),
        "b": normal(2, 5, 4, 6),
        "q": normal(2, 3, 4, 8),
        "k": normal(2, 3, 5, 8),
        "mask": np.abs(normal(4, 5)),
    }
    compare(checks, feed, tolerance=3e-5)
