"""Rows of devices.yaml are checked, and a file of one's own lies over them."""

from pathlib import Path

import pytest

from fourfold.errors import UsageError
from fourfold.runtimes import device as module
from fourfold.runtimes.device import MAX_BYTES, Device, get_device, load_devices

ROW = "- {name: board, title: A board, runtime: ort, arch: aarch64}\n"


def devices_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_shipped_rows_load_and_cover_every_kind_of_machine() -> None:
    devices = load_devices()
    assert {device.runtime for device in devices.values()} >= {"ort", "ov", "trt", "coreml", "optical4f"}
    assert all(name == device.name and device.title for name, device in devices.items())
    assert next(iter(devices)) == "cpu-ort"


def test_a_row_of_ones_own_is_added_with_its_defaults(tmp_path: Path) -> None:
    devices = load_devices(devices_file(tmp_path, ROW))
    assert devices["board"] == Device("board", "A board", "ort", "aarch64", "any", "CPU", 1, "")
    assert "cpu-ort" in devices


def test_a_row_with_a_known_name_replaces_the_whole_row(tmp_path: Path) -> None:
    row = "- {name: raspberry-pi-5, title: Mine, runtime: ort, arch: aarch64}"
    device = get_device("raspberry-pi-5", devices_file(tmp_path, row))
    assert (device.title, device.threads, device.os) == ("Mine", 1, "any")


def test_an_unknown_device_gets_near_names() -> None:
    with pytest.raises(UsageError, match="expected a known device, got 'cpu-rt'; did you mean cpu-ort"):
        get_device("cpu-rt")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ROW.replace("arch", "archs"), "row board of .*my.yaml: .*known key, got 'archs'; did you mean arch"),
        (ROW.replace(", arch: aarch64", ""), "row board of .*my.yaml: expected the key 'arch', got none"),
        (ROW.replace("name: board, ", ""), "row 1 of .*my.yaml: expected the key 'name', got none"),
        (ROW.replace("aarch64", "arm7"), "row board of .*my.yaml: expected a known arch, got 'arm7'"),
        (ROW.replace("ort", "orte"), "row board of .*my.yaml: .*known runtime, got 'orte'; did you mean ort"),
        (ROW.replace("}", ", os: beos}"), "row board of .*my.yaml: expected a known os, got 'beos'"),
        (ROW.replace("}", ", threads: two}"), "row board .* threads to be a whole number, got str"),
        (ROW.replace("}", ", threads: true}"), "row board .* threads to be a whole number, got bool"),
        (ROW.replace("}", ", threads: 0}"), "row board .* threads of at least 1, got 0"),
        (ROW.replace("ort", "null"), "row board .* runtime to be text, got nothing; put it in quotes"),
        (ROW.replace("A board", "[1, 2]"), "row board .* title to be text, got list"),
        (ROW.replace("board,", "../up,"), r"row \.\./up .* name of letters, digits, .* got '\.\./up'"),
        (ROW + ROW, "expected each name once in .*my.yaml, got 'board' twice"),
        ("- board", "expected row 1 of .*my.yaml to be keys and values, got str"),
        ("name: board", "expected a list of rows in .*my.yaml, got dict"),
        ("", "expected a list of rows in .*my.yaml, got nothing"),
        ("- {name: [", "expected YAML in .*my.yaml, got text that does not parse"),
        ("- !!python/object/apply:os.getcwd []", "expected YAML in .*my.yaml, got text that does not parse"),
        ("[" * 5000, "expected YAML in .*my.yaml, got text that does not parse"),
        ("- {name: 2024-99-99}", "expected YAML in .*my.yaml, got text that does not parse"),
        (b"\xff\xfe\x00\xd8", "expected YAML in .*my.yaml, got text that does not parse"),
        (b"#" * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes of device rows"),
    ],
)
def test_a_wrong_file_is_refused(text: str | bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_devices(devices_file(tmp_path, text))


def test_values_that_multiply_stay_out_of_the_sentence(tmp_path: Path) -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    text = "- {" + ", ".join(layers) + ", name: *a8}"
    with pytest.raises(UsageError) as caught:
        load_devices(devices_file(tmp_path, text))
    assert len(str(caught.value)) < 500


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a readable file of device rows, got .*none\.yaml"):
        load_devices(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("host", "arch", "os", "reason"),
    [
        (("x86_64", "linux"), "x86_64", "any", None),
        (("x86_64", "linux"), "any", "any", None),
        (("x86_64", "linux"), "x86_64", "linux", None),
        (("x86_64", "linux"), "aarch64", "linux", "board is aarch64 but this machine is x86_64"),
        (("aarch64", "linux"), "aarch64", "ios", "board is ios but this machine is linux"),
        (
            ("x86_64", "linux"),
            "aarch64",
            "macos",
            "board is aarch64 but this machine is x86_64 and macos but this machine is linux",
        ),
    ],
)
def test_a_device_that_is_elsewhere_says_so(
    host: tuple[str, str], arch: str, os: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_host", lambda: host)
    assert Device("board", "A board", "ort", arch, os).elsewhere() == reason


@pytest.mark.parametrize(
    ("machine", "system", "host"),
    [
        ("AMD64", "win32", ("x86_64", "windows")),
        ("arm64", "darwin", ("aarch64", "macos")),
        ("aarch64", "linux", ("aarch64", "linux")),
    ],
)
def test_hosts_are_named_as_rows_are(
    machine: str, system: str, host: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: machine)
    monkeypatch.setattr(module.sys, "platform", system)
    assert module._host() == host  # pyright: ignore[reportPrivateUsage]
