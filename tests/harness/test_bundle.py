import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from fourfold.errors import BuildError, UsageError
from fourfold.export.artifact import Exported, Golden, Step
from fourfold.harness.bundle import Bundle
from fourfold.harness.new_bundle import check_free, clear_leftovers, folder_name, new_bundle
from fourfold.harness.write_bundle import history_digest, save_latency, write_bundle
from fourfold.models.spec import Preprocess, TensorSpec
from fourfold.runtimes.device import Device

TITLE = "smt_nano@cpu-ort-fp32"
DEVICE = Device("cpu-ort", "x86 CPU with ONNX Runtime", "ort", "x86_64", threads=2, notes="from an overlay")
PICTURE = Preprocess(size=(28, 28), mean=(0.286,), std=(0.353,), mode="L", resize="exact")


def relu(name: str) -> Exported:
    x = ir.Value(name="x", shape=ir.Shape(["batch", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Relu", [x])
    node.outputs[0].name = "y"
    model = ir.Model(
        ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name=name), ir_version=10
    )
    answer = np.arange(12, dtype=np.float32).reshape(2, 6).T[:2, :]  # not contiguous
    scale = np.float32(0.25).reshape(())
    golden = Golden({"x": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": scale}, {"y": answer})
    spec = TensorSpec("x", ("batch", 3))
    return Exported(name, model, (spec,), (replace(spec, name="y"),), golden)


@pytest.fixture
def make(report, latency, tmp_path):
    """Make a bundle in ``tmp_path``; the text in the compiled file tells one from another."""

    def make(text="compiled", *, overwrite=False):
        with new_bundle(tmp_path, TITLE, overwrite=overwrite) as folder:
            compiled = folder / "compiled" / "deep" / "model.bin"
            compiled.parent.mkdir(parents=True)
            compiled.write_text(text)
            write_bundle(
                folder,
                relu("smt_nano"),
                compiled,
                report(),
                device=DEVICE,
                latency=latency(np.arange(1, 101)),
                preprocess=PICTURE,
                labels=("shirt", "<boot>"),
            )
        return tmp_path / TITLE

    return make


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_bundle_gives_back_what_was_put_in(make, report):
    folder = make()
    bundle = Bundle.load(folder)
    given = relu("smt_nano").golden
    assert names(folder) == sorted(
        [
            "compiled",
            "golden.safetensors",
            "manifest.json",
            "model.onnx",
            "report.html",
            "report.json",
            "samples.npz",
        ]
    )
    assert (bundle.title, bundle.precision, bundle.device) == (TITLE, "fp32", DEVICE)
    assert bundle.compiled.read_text() == "compiled"
    assert bundle.manifest.labels == ("shirt", "<boot>")
    assert bundle.manifest.preprocess == PICTURE
    assert bundle.manifest.history_sha256 == history_digest(report().history)
    assert ir.load(bundle.model).graph.name == "smt_nano"
    assert bundle.samples_ns is not None
    np.testing.assert_array_equal(bundle.samples_ns, np.arange(1, 101))
    for kept, put in ((bundle.golden.inputs, given.inputs), (bundle.golden.outputs, given.outputs)):
        assert kept.keys() == put.keys()
        for name, array in put.items():
            np.testing.assert_array_equal(kept[name], array, strict=True)


def test_sizes_are_those_of_the_files(make):
    bundle = Bundle.load(make())
    assert bundle.report.sizes["compiled/deep/model.bin"] == len("compiled")
    assert bundle.report.sizes["model.onnx"] == bundle.model.stat().st_size
    assert len(bundle.report.sizes) == 2


def test_the_page_of_a_bundle_shows_its_title(make):
    assert TITLE in (make() / "report.html").read_text(encoding="utf-8")


def test_the_history_digest_sees_what_was_done_and_not_how_long_it_took():
    step = Step("fold", "Folded.", 3, 10, 0.5)
    assert history_digest([step]) == history_digest([replace(step, seconds=9.0)])
    assert history_digest([step]) != history_digest([replace(step, changed=4)])


def test_an_existing_bundle_is_refused_before_any_work(make, tmp_path):
    make("first")
    with pytest.raises(UsageError, match="--overwrite"):
        check_free(tmp_path, TITLE, overwrite=False)
    with pytest.raises(UsageError, match="--overwrite"):
        make("second")
    assert (tmp_path / TITLE / "compiled/deep/model.bin").read_text() == "first"
    assert names(tmp_path) == [TITLE]


def test_overwriting_leaves_only_the_new_one(make, tmp_path):
    make("first")
    assert Bundle.load(make("second", overwrite=True)).compiled.read_text() == "second"
    assert names(tmp_path) == [TITLE]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_leaves_everything_as_it_was(make, tmp_path, error, overwrite):
    if overwrite:
        make("first")
    before = names(tmp_path)

    def fail():
        with new_bundle(tmp_path, TITLE, overwrite=overwrite) as folder:
            (folder / "half").write_text("made")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == before
    assert not overwrite or Bundle.load(tmp_path / TITLE).compiled.read_text() == "first"


def test_a_failed_swap_puts_the_old_bundle_back(make, tmp_path, monkeypatch):
    make("first")
    rename = type(tmp_path).rename

    def interrupted(self, target):
        if self.name.startswith(".tmp-"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("second", overwrite=True)
    monkeypatch.undo()
    assert names(tmp_path) == [TITLE]
    assert Bundle.load(tmp_path / TITLE).compiled.read_text() == "first"


def test_a_bundle_made_meanwhile_is_not_replaced(make, tmp_path):
    def race():
        with new_bundle(tmp_path, TITLE) as folder:
            (folder / "late").write_text("late")
            make("first")

    with pytest.raises(UsageError, match="meanwhile"):
        race()
    assert Bundle.load(tmp_path / TITLE).compiled.read_text() == "first"
    assert names(tmp_path) == [TITLE]


SLEEPER = """
import sys, time
from pathlib import Path
from fourfold.harness.new_bundle import new_bundle

with new_bundle(Path(sys.argv[1]), "a@b-fp32") as folder:
    (folder / "half").write_text("made")
    print("ready", flush=True)
    time.sleep(60)
"""


def run_until_ready(out):
    command = [sys.executable, "-c", SLEEPER, str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_termination_leaves_nothing(tmp_path):
    with run_until_ready(tmp_path) as process:
        assert len(names(tmp_path)) == 1
        process.send_signal(signal.SIGTERM)
    assert process.returncode != 0
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_and_a_living_one_is_left_alone(make, tmp_path):
    with run_until_ready(tmp_path) as process:
        (left,) = names(tmp_path)
        clear_leftovers(tmp_path)
        assert names(tmp_path) == [left]
        process.kill()
    make()
    assert names(tmp_path) == [TITLE]


def test_a_replacement_that_was_killed_between_its_two_renames_is_undone(make, tmp_path):
    with run_until_ready(tmp_path) as process:
        (left,) = names(tmp_path)
        process.kill()
    make("first").rename(tmp_path / left.replace(".tmp-a@b-fp32", f".old-{TITLE}"))
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [TITLE]
    assert Bundle.load(tmp_path / TITLE).compiled.read_text() == "first"


def test_a_process_number_that_was_given_out_again_does_not_protect_a_leftover(tmp_path):
    with new_bundle(tmp_path, "a@b-fp32") as folder:
        copy = folder.with_name(folder.name[:-1] + ("0" if folder.name[-1] != "0" else "1"))
        copy.mkdir()
        os.utime(copy, (0, 0))  # last written long before this process began
        clear_leftovers(tmp_path)
        assert names(tmp_path) == [folder.name]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, BuildError, "full disk"),
        (errno.EDQUOT, BuildError, "full disk"),
        (errno.EROFS, UsageError, "expected to write"),
    ],
)
def test_a_refused_write_is_one_sentence(tmp_path, number, kind, message):
    def fail():
        with new_bundle(tmp_path, TITLE):
            raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match=message):
        fail()
    assert names(tmp_path) == []


def test_a_system_error_elsewhere_is_not_blamed_on_the_output(tmp_path):
    def fail():
        with new_bundle(tmp_path / "out", TITLE):
            raise PermissionError(errno.EACCES, "denied", str(tmp_path / "data"))

    with pytest.raises(PermissionError):
        fail()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="got a file"):
            check_free(out, TITLE, overwrite=True)


def test_an_output_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UsageError, match="writable"):
        check_free(tmp_path, TITLE, overwrite=True)


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path):
    (tmp_path / TITLE).mkdir()
    (tmp_path / TITLE / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="no bundle"):
        check_free(tmp_path, TITLE, overwrite=True)


def test_a_link_is_never_overwritten(make, tmp_path):
    make().rename(tmp_path / "elsewhere")
    (tmp_path / TITLE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="no bundle"):
        check_free(tmp_path, TITLE, overwrite=True)


@pytest.mark.parametrize(
    ("title", "folder"),
    [
        (TITLE, TITLE),
        ("timm/resnet18@cpu-fp32", "timm-resnet18@cpu-fp32"),
        ("../../etc@x-fp32", "etc@x-fp32"),
        ("a:b c<d>@x-fp32", "a-b-c-d-@x-fp32"),
        ("...", "-"),
    ],
)
def test_a_title_becomes_a_safe_folder_name(title, folder):
    assert folder_name(title) == folder


def test_a_title_that_no_file_system_takes_is_refused(tmp_path):
    with pytest.raises(UsageError, match="160 characters"):
        check_free(tmp_path, "x" * 400, overwrite=False)


def test_a_path_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such path"):
        Bundle.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="without manifest"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "model.onnx",
        "compiled/deep/model.bin",
        "golden.safetensors",
        "report.json",
        "report.html",
        "samples.npz",
    ],
)
def test_a_changed_or_missing_file_is_found(make, file):
    path = make() / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"expected {file} with .* bytes of sha256"):
        Bundle.load(path.parents[file.count("/")])
    path.unlink()
    with pytest.raises(UsageError, match=f"expected {file} .*got no such file"):
        Bundle.load(path.parents[file.count("/")])


def test_an_added_compiled_file_is_found_and_a_note_is_not_held_against_a_bundle(make):
    folder = make()
    (folder / "notes.txt").write_text("mine")
    Bundle.load(folder)
    (folder / "compiled" / "plugin.so").write_bytes(b"\x7fELF")
    with pytest.raises(UsageError, match=r"also compiled/plugin\.so"):
        Bundle.load(folder)


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "bad", ["../outside", "/etc/passwd", "a/../../b", "a\\..\\b", "./model.onnx", "a//b"]
)
def test_a_manifest_may_not_name_a_path_outside(make, bad):
    folder = make()
    (folder.parent / "outside").write_text("secret")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files=files | {bad: {"sha256": "00", "size": 6}})
    with pytest.raises(UsageError, match="paths inside the bundle"):
        Bundle.load(folder)
    edit(folder, files=files, compiled=bad)
    with pytest.raises(UsageError, match="paths inside the bundle"):
        Bundle.load(folder)


def test_a_link_that_leaves_the_bundle_is_refused(make):
    folder = make()
    outside = folder.parent / "outside"
    shutil.copy(folder / "model.onnx", outside)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(outside)
    with pytest.raises(UsageError, match="link that leaves"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "newer fourfold"),
        ({"extra": 1}, "only the keys of Manifest"),
        ({"files": {}}, "in its manifest"),
        ({"device": {"name": "x"}}, "of Device"),
        ({"compiled": "compiled/other"}, "compiled/other in its manifest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(make, changes, message):
    folder = make()
    edit(folder, **changes)
    with pytest.raises(UsageError, match=message):
        Bundle.load(folder)


def test_a_manifest_of_other_bytes_is_refused(make):
    folder = make()
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="other bytes"):
        Bundle.load(folder)


def test_a_file_that_cannot_be_read_is_one_sentence(make, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "denied", str(path))

    folder = make()
    monkeypatch.setattr("fourfold.harness.bundle.digest", refuse)  # root may read anything
    with pytest.raises(UsageError, match=r"expected a readable compiled/deep/model.bin .*denied"):
        Bundle.load(folder)


def test_an_absurdly_large_manifest_is_refused_unread(make):
    folder = make()
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(UsageError, match="at most"):
        Bundle.load(folder)


def test_a_new_latency_replaces_the_old_one_and_the_bundle_stays_whole(make, latency):
    bundle = Bundle.load(make())
    taken = 2_000_000 + np.arange(400) * 10
    save_latency(bundle, latency(taken))
    again = Bundle.load(bundle.folder)
    assert again.samples_ns is not None
    np.testing.assert_array_equal(again.samples_ns, taken)
    assert again.report.latency is not None
    assert again.report.latency.n == 400
    assert again.report.latency.median_ms.value == pytest.approx(2.0, rel=0.01)
    assert again.compiled.read_text() == "compiled"
    assert names(bundle.folder.parent) == [TITLE]


def test_reading_a_bundle_needs_no_torch_and_no_engine(make):
    code = """
        import sys
        from pathlib import Path
        from fourfold.harness.bundle import Bundle

        bundle = Bundle.load(Path(sys.argv[1]))
        assert bundle.golden.inputs and bundle.report.title and len(bundle.samples_ns) == 100
        heavy = {"torch", "onnxruntime", "openvino", "jinja2", "timm"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(make())], check=False)
    assert done.returncode == 0


def test_bundles_are_ordinary_folders(make):
    umask = os.umask(0o022)
    try:
        assert make().stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(umask)


def test_making_a_bundle_leaves_the_termination_handler_as_it_was(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with new_bundle(tmp_path, TITLE):
        assert signal.getsignal(signal.SIGTERM) != before
        time.sleep(0)
    assert signal.getsignal(signal.SIGTERM) == before
