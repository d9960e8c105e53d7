"""What is typed, turned into options."""

from pathlib import Path

import pytest

from fourfold.errors import UsageError
from fourfold.harness.options import labels


def test_labels_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffT-shirt/top\r\nhöher, weiter \n\n\n".encode())
    assert labels(path) == ("T-shirt/top", "höher, weiter")
    assert labels(None) is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "expected one label a line"),
        (b"cat\n\ndog\n", "expected one label a line"),
        (b"a\n" * (1 << 19) + b"b", "at most 1 MB"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (None, "No such file"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    path = tmp_path / "labels.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=sentence):
        labels(path)
