from pathlib import Path
from typing import Any

import pytest

from fourfold.runtimes import ort
from fourfold.runtimes.device import get_device


@pytest.mark.parametrize(
    ("flags", "exact"),
    [("flags : avx2 avx512f avx512_vnni", True), ("flags : avx2 avx_vnni", True), ("flags : avx2", False)],
)
def test_vnni_is_read_from_the_processor_flags(tmp_path: Path, flags: str, exact: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(flags)
    assert ort._multiplies_exactly(file) is exact


def test_a_processor_that_says_nothing_gets_the_exact_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    asked: list[dict[str, str]] = []

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            asked.append({key: value})
            super().add_session_config_entry(key, value)

    def session(_graph: Any, options: Any, **_more: Any) -> None:
        assert isinstance(options, Options)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(ort, "CPUINFO", tmp_path / "none")
    ort._session(b"", get_device("cpu-ort"))
    assert asked == [{"session.x64quantprecision": "1"}]
    (tmp_path / "vnni").write_text("avx512_vnni")
    monkeypatch.setattr(ort, "CPUINFO", tmp_path / "vnni")
    ort._session(b"", get_device("cpu-ort"))
    assert len(asked) == 1
