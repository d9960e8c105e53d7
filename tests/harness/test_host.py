import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from fourfold.harness import host as module
from fourfold.harness.host import affinity, host, tools

ARM_BOARD = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd aes crc32 asimdhp asimddp
CPU part\t: 0xd0b

processor\t: 1
Features\t: fp

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
MAC = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 0
"""


def test_this_machine_is_described():
    here = host()
    assert here.processor
    assert here.arch == platform.machine().replace("AMD64", "x86_64")
    assert here.logical_cores == os.cpu_count()
    assert 1 <= here.cores <= (here.logical_cores or 0)
    assert json.loads(json.dumps(asdict(here)))["os"].startswith(platform.system())


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.system() != "Linux", reason="reads /proc of x86"
)
def test_flags_are_those_of_the_first_core():
    words = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    assert set(host().flags) == set(words) & {*module.KERNEL_FLAGS, module.VIRTUAL_FLAG}
    assert host().flags


def test_an_arm_board_gives_its_name_and_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(ARM_BOARD)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module, "CPUINFO", cpuinfo)
    assert host().processor == "Raspberry Pi 5 Model B Rev 1.0"
    assert host().flags == ("asimd", "asimdhp", "asimddp")


def test_a_mac_is_asked_by_sysctl(monkeypatch: pytest.MonkeyPatch):
    class Done:
        stdout = MAC

    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: Done)  # pyright: ignore
    assert host().processor == "Apple M2"
    assert host().flags == ("asimddp", "i8mm")
    assert affinity() == ()


def test_nothing_readable_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def absent(*_: object, **__: object) -> None:
        raise OSError

    for system in ("linux", "darwin", "win32"):
        monkeypatch.setattr(module.sys, "platform", system)
        monkeypatch.setattr(module.subprocess, "run", absent)
        monkeypatch.setattr(module.os, "getloadavg", absent)
        monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
        monkeypatch.setattr(module, "GOVERNOR", tmp_path / "none")
        here = host()
        assert (here.flags, here.governor, here.load) == ((), None, None)
        assert here.processor


def test_governor_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    governor = tmp_path / "scaling_governor"
    governor.write_text("powersave\n")
    monkeypatch.setattr(module, "GOVERNOR", governor)
    assert host().governor == "powersave"


def test_affinity_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch):
    if hasattr(os, "sched_getaffinity"):
        assert affinity() == tuple(sorted(os.sched_getaffinity(0)))

    def denied(_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(module.psutil.Process, "cpu_affinity", denied, raising=False)
    assert affinity() == ()


def test_tools_names_python_first_and_leaves_out_what_is_absent():
    found = tools(["numpy", "surely-not-installed", "psutil"])
    assert list(found) == ["python", "numpy", "psutil"]
    assert found["psutil"] == psutil.__version__
