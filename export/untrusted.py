"""Checks of an ONNX file that nobody here made, before anything believes what it declares.

Nothing is allocated from a declared size: every size is first held against the bytes that are there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError

from ..errors import BuildError

MAX_BYTES = 2**31 - 1
"""Of the file and its external data together: what one protobuf message can hold."""
MAX_NODES = 100_000
"""With functions written out."""
MAX_FUNCTIONS = 500
MAX_DEPTH = 8
"""Of graphs inside If, Loop and Scan."""
MAX_ELEMENTS = 2**28
"""Of one tensor, 1 GiB in float32."""

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_T = onnx.TensorProto
_PACKED = {_T.INT4, _T.UINT4, _T.FLOAT4E2M1}
_FIELDS: dict[int, str] = {
    _T.FLOAT: "float_data",
    _T.COMPLEX64: "float_data",
    _T.DOUBLE: "double_data",
    _T.COMPLEX128: "double_data",
    _T.INT64: "int64_data",
    _T.UINT64: "uint64_data",
    _T.UINT32: "uint64_data",
    _T.STRING: "string_data",
}
_COMPLEX = {_T.COMPLEX64, _T.COMPLEX128}


def read_proto(path: Path) -> onnx.ModelProto:
    """Read a file and its external data into one message that holds together.

    Args:
        path: The ``.onnx`` file.

    Returns:
        The model with all weights inside.

    Raises:
        BuildError: If the file is missing, too large, broken, not ONNX, or declares what is not there.
    """
    proto = _parse(path)
    _check_size(proto, path)
    _check_domains(proto, path)
    _free_unknown(proto.graph)
    budget = MAX_BYTES - proto.ByteSize()
    for tensor in _tensors(proto):
        budget -= _check_tensor(tensor, path, budget)
    _check_valid(proto, path)
    return proto


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise _refused(path, "an ONNX file", "no such file", "check the path")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise _refused(path, f"between 1 and {MAX_BYTES} bytes", f"{size} bytes", "check the file")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise _refused(path, "an ONNX file", f"{type(error).__name__}: {error}", _AGAIN) from error
    if not proto.ir_version or not proto.graph.output:
        raise _refused(path, "an ONNX file", "a file without a graph", _AGAIN)
    if proto.ir_version > onnx.IR_VERSION:
        wanted = f"IR version {onnx.IR_VERSION} or lower"
        raise _refused(path, wanted, f"{proto.ir_version}", "export it with an older IR version")
    return proto


def _check_size(proto: onnx.ModelProto, path: Path) -> None:
    if len(proto.functions) > MAX_FUNCTIONS:
        raise _refused(path, f"at most {MAX_FUNCTIONS} functions", f"{len(proto.functions)}", "inline them")
    inside: Counter[tuple[str, str]] = Counter()
    # Functions are counted written out: a few that call each other twice grow without limit.
    pending = {(f.domain, f.name): f for f in proto.functions}
    while pending:
        ready = [key for key, f in pending.items() if not _calls(f, path) & pending.keys()]
        if not ready:
            looped = _pair(next(iter(pending)))
            raise _refused(path, "functions that end", f"{looped}, which calls itself", _AGAIN)
        for key in ready:
            inside[key] = sum(
                max(1, inside[n.domain, n.op_type]) for n in _nodes(pending.pop(key).node, path)
            )
    total = sum(max(1, inside[n.domain, n.op_type]) for n in _nodes(proto.graph.node, path))
    if total > MAX_NODES:
        raise _refused(path, f"at most {MAX_NODES} nodes", f"{total}", "split the network")


def _calls(function: onnx.FunctionProto, path: Path) -> set[tuple[str, str]]:
    return {(node.domain, node.op_type) for node in _nodes(function.node, path)}


def _nodes(nodes: Iterable[onnx.NodeProto], path: Path, depth: int = 0) -> Iterator[onnx.NodeProto]:
    if depth > MAX_DEPTH:
        raise _refused(path, f"at most {MAX_DEPTH} graphs inside each other", "more", "flatten the network")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node, path, depth + 1)


def _free_unknown(graph: onnx.GraphProto) -> None:
    """Let a declared size of -1, which some exporters write for an unknown one, be unknown."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == -1:
                dim.ClearField("dim_value")


def _check_domains(proto: onnx.ModelProto, path: Path) -> None:
    known = {(f.domain, f.name) for f in proto.functions}
    bodies = [proto.graph.node, *(f.node for f in proto.functions)]
    foreign = sorted(
        {
            f"{n.domain}.{n.op_type}"
            for body in bodies
            for n in _nodes(body, path)
            if n.domain not in _DOMAINS and (n.domain, n.op_type) not in known
        }
    )
    if foreign:
        shown = ", ".join(foreign[:5]) + (" and more" if len(foreign) > 5 else "")
        raise _refused(path, "operators of ONNX itself", shown, "export it without engine-specific operators")


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_of(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _tensors_in(node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_in(node)


def _tensors_in(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (t for t in (sparse.values, sparse.indices) if t.data_type)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of(graph)


def _check_tensor(tensor: onnx.TensorProto, path: Path, budget: int) -> int:
    """Hold the declared shape against the data, take external data in, and give the bytes taken in."""
    if tensor.data_type not in _T.DataType.values() or tensor.data_type == _T.UNDEFINED:
        raise _bad(tensor, path, "a known data type", f"number {tensor.data_type}")
    if any(d < 0 for d in tensor.dims):
        raise _bad(tensor, path, "sizes of zero or more", f"shape {list(tensor.dims)}")
    count = math.prod(tensor.dims)
    if count > MAX_ELEMENTS:
        raise _bad(tensor, path, f"at most {MAX_ELEMENTS} values", f"shape {list(tensor.dims)}")
    if tensor.data_location == _T.EXTERNAL:
        return _take_in(tensor, path, _bytes_of(tensor, count), budget)
    wanted, got = _bytes_of(tensor, count), len(tensor.raw_data)
    if not tensor.HasField("raw_data"):
        wanted, got = (
            _stored(tensor, count),
            len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))),
        )
    if wanted != got:
        unit = "bytes" if tensor.HasField("raw_data") else "values"
        raise _bad(tensor, path, f"{wanted} {unit} for shape {list(tensor.dims)}", f"{got}")
    return 0


def _bytes_of(tensor: onnx.TensorProto, count: int) -> int:
    if tensor.data_type in _PACKED:
        return (count + 1) // 2
    return count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _stored(tensor: onnx.TensorProto, count: int) -> int:
    if tensor.data_type in _PACKED:
        return (count + 1) // 2
    return 2 * count if tensor.data_type in _COMPLEX else count


def _take_in(tensor: onnx.TensorProto, path: Path, wanted: int, budget: int) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(tensor, path, entries.get("location", ""))
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries.get("length", "") or size - offset)
    except ValueError as error:
        raise _bad(tensor, path, "numbers for offset and length", f"{entries}") from error
    if offset < 0 or length != wanted or offset + length > size:
        found = f"offset {offset} and length {length} in {file.name} of {size} bytes"
        raise _bad(tensor, path, f"{wanted} bytes of external data", found)
    if wanted > budget:
        raise _refused(path, f"at most {MAX_BYTES} bytes with external data", "more", "use a smaller network")
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = _T.DEFAULT
    return length


def _inside(tensor: onnx.TensorProto, path: Path, location: str) -> Path:
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute()
    folder = path.parent.resolve()
    file = (folder / location).resolve()
    # Resolved, so that neither ".." nor a symbolic link leads out of the folder.
    if not location or absolute or ".." in Path(location).parts or not file.is_relative_to(folder):
        raise _bad(tensor, path, "external data inside the folder of the model", f"location {location!r}")
    if not file.is_file():
        raise _bad(tensor, path, f"external data in {location!r}", "no such file")
    return file


def _check_valid(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(proto)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:
        raise _refused(path, "a valid ONNX graph", first_line(error), "export it again") from error
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
        if any(d < 0 for d in dims) or math.prod(dims) > MAX_ELEMENTS:
            found = f"shape {dims} at {value.name!r}"
            raise _refused(path, f"tensors of at most {MAX_ELEMENTS} values", found, "use a smaller input")


def first_line(error: BaseException) -> str:
    """Give the first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _pair(key: tuple[str, str]) -> str:
    return ".".join(part for part in key if part)


def _bad(tensor: onnx.TensorProto, path: Path, expected: str, got: str) -> BuildError:
    return _refused(path, f"{expected} in tensor {tensor.name[:80]!r}", got, _AGAIN)


def _refused(path: Path, expected: str, got: str, advice: str) -> BuildError:
    return BuildError(f"{path.name}: expected {expected}, got {got}; {advice}")


_AGAIN = "the file is damaged or was not made by an exporter, get it again"
