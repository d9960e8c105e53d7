from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourfold.calibration import pictures as pictures_module
from fourfold.calibration.samples import open_samples, overlap, shipped_samples, synthetic_samples
from fourfold.errors import UsageError
from fourfold.models.spec import Preprocess, TensorSpec

INPUT = (TensorSpec("x", ("batch", 3, 16, 16)),)
GREY = (TensorSpec("x", ("batch", 1, 28, 28)),)
PLAIN = Preprocess(mean=(0.5,), std=(0.25,), size=(16, 16), mode="RGB")
EXACT = Preprocess(mean=(0.5,), std=(0.25,), size=(16, 16), mode="RGB", resize="exact")


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def everything(samples, size: int = 5) -> np.ndarray:
    return np.concatenate([batch["x"] for batch in samples.batches(size)])


def test_a_folder_twice_is_the_same_samples(pictures: Path):
    one, two = (open_samples(pictures, INPUT, PLAIN, limit=None) for _ in range(2))
    assert one.source == two.source
    assert one.source.description == "folder: 12 images"
    assert str(pictures) not in repr(one.source)
    np.testing.assert_array_equal(everything(one), everything(two))
    np.testing.assert_array_equal(one.labels, [0] * 6 + [1] * 6)


def test_batches_do_not_change_the_samples(pictures: Path):
    samples = open_samples(pictures, INPUT, PLAIN, limit=None)
    assert [len(b["x"]) for b in samples.batches(5)] == [5, 5, 2]
    np.testing.assert_array_equal(everything(samples, 5), everything(samples, 12))
    assert everything(samples).dtype == np.float32


def test_a_zip_is_the_same_as_its_folder_and_is_not_unpacked(pictures: Path, tmp_path: Path):
    path = zipped(pictures)
    before = sorted(tmp_path.rglob("*"))
    folder, archive = (open_samples(p, INPUT, PLAIN, limit=None) for p in (pictures, path))
    np.testing.assert_array_equal(everything(folder), everything(archive))
    assert folder.source.sha256 == archive.source.sha256
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_in_a_zip_is_the_same_as_outside(pictures: Path, tmp_path: Path):
    path = tmp_path / "splits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("test")
        for file in sorted(pictures.rglob("*.png")):
            name = file.relative_to(pictures)
            archive.write(file, (Path("test") / name).as_posix())
            archive.write(file, (Path("testing") / name.with_stem(f"{name.stem}_b")).as_posix())
    folder = open_samples(pictures, INPUT, PLAIN, limit=None)
    inside = open_samples(path / "test", INPUT, PLAIN, limit=None)
    assert folder.source.sha256 == inside.source.sha256
    np.testing.assert_array_equal(folder.labels, inside.labels)
    assert open_samples(path, INPUT, PLAIN, limit=None).count == 2 * folder.count


def test_a_folder_that_a_zip_lacks_is_named(pictures: Path):
    with pytest.raises(UsageError, match="without any under 'train'"):
        open_samples(zipped(pictures) / "train", INPUT, PLAIN, limit=None)


def test_a_limit_draws_by_seed(pictures: Path):
    a, b, c = (open_samples(pictures, INPUT, PLAIN, limit=5, seed=s) for s in (0, 0, 1))
    assert a.count == 5
    assert a.source.description == "folder: 5 of 12 images"
    assert a.source.seed == 0
    assert a.source.sha256 == b.source.sha256 != c.source.sha256


def test_a_changed_pixel_changes_the_hash(pictures: Path):
    before = open_samples(pictures, INPUT, PLAIN, limit=None).source.sha256
    file = pictures / "cat" / "0.png"
    pixels = np.asarray(Image.open(file)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file)
    assert open_samples(pictures, INPUT, PLAIN, limit=None).source.sha256 != before


def test_names_with_class_numbers_give_labels(tmp_path: Path):
    for name in ("0007_n01440764_tench.jpg", "0003_n01484850_shark.jpg"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    assert open_samples(tmp_path, INPUT, PLAIN, limit=None).labels.tolist() == [3, 7]


def test_class_names_of_the_model_number_the_folders(pictures: Path):
    samples = open_samples(pictures, INPUT, PLAIN, limit=None, labels=("bird", "dog", "cat"))
    assert samples.labels.tolist() == [2] * 6 + [1] * 6
    assert samples.notes == ()
    assert "numbered" in open_samples(pictures, INPUT, PLAIN, limit=None).notes[0]


def test_without_declared_preprocessing_the_input_decides_and_a_note_says_so(pictures: Path):
    samples = open_samples(pictures, INPUT, None, limit=None)
    assert "declares no preprocessing" in samples.notes[0]
    values = everything(samples)
    assert values.shape == (12, 3, 16, 16)
    assert 0.0 <= values.min() < values.max() <= 1.0


def test_an_npz_by_input_name(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((9, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, labels=np.arange(9))
    samples = open_samples(tmp_path / "a.npz", INPUT, PLAIN, limit=None)
    np.testing.assert_array_equal(everything(samples), x)
    np.testing.assert_array_equal(samples.labels, np.arange(9))


def test_an_npz_of_uint8_images_is_prepared_like_files(tmp_path: Path, pictures: Path):
    files = sorted(pictures.rglob("*.png"))
    np.savez(tmp_path / "a.npz", images=np.stack([np.asarray(Image.open(f)) for f in files]))
    arrays = open_samples(tmp_path / "a.npz", INPUT, PLAIN, limit=None)
    np.testing.assert_array_equal(
        everything(arrays), everything(open_samples(pictures, INPUT, PLAIN, limit=None))
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros((9, 3, 16, 16), np.float32)}, "array named 'x'.*got z"),
        ({"x": np.zeros((9, 3, 8, 8), np.float32)}, "expected shape .*16, 16"),
        ({"x": np.zeros((9, 3, 16, 16), np.float64)}, "float32 .*got float64"),
        ({"x": np.zeros((9, 3, 16, 16), np.float32), "y": np.zeros(4, int)}, "9 whole-number labels"),
        ({"images": np.zeros((9, 16, 16), np.uint8)}, r"\(N, H, W, 3\)"),
        ({"x": np.array([{"a": 1}], object)}, "plain arrays"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        open_samples(tmp_path / "a.npz", INPUT, PLAIN, limit=None)


def test_a_missing_path_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="does not exist"):
        open_samples(tmp_path / "nowhere", INPUT, PLAIN, limit=None)


def test_an_empty_folder_and_one_without_pictures_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="empty folder"):
        open_samples(tmp_path, INPUT, PLAIN, limit=None)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UsageError, match="a folder without any"):
        open_samples(tmp_path, INPUT, PLAIN, limit=None)


def test_another_kind_of_file_is_refused(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"got the file 'a\.tar'"):
        open_samples(tmp_path / "a.tar", INPUT, PLAIN, limit=None)


@pytest.mark.parametrize("content", [b"not a picture", b""])
def test_a_broken_file_in_the_middle_is_named(pictures: Path, content: bytes):
    (pictures / "cat" / "3.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"cat/3\.png"):
        open_samples(pictures, INPUT, PLAIN, limit=None)


def test_a_truncated_picture_is_named(pictures: Path):
    file = pictures / "dog" / "2.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"dog/2\.png"):
        open_samples(pictures, INPUT, PLAIN, limit=None)


def test_a_wrong_size_is_refused_under_exact(pictures: Path):
    with pytest.raises(UsageError, match=r"16x16 pixels, got 20x24 in 'cat/0\.png'"):
        open_samples(pictures, INPUT, EXACT, limit=None)


def test_too_few_samples_are_refused(pictures: Path):
    with pytest.raises(UsageError, match="at least 50 images, got 12"):
        open_samples(pictures, INPUT, PLAIN, limit=None, least=50)
    with pytest.raises(UsageError, match="at least one"):
        open_samples(pictures, INPUT, PLAIN, limit=0)


def test_a_corrupt_zip_is_refused(pictures: Path):
    path = zipped(pictures)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"readable \.zip"):
        open_samples(path, INPUT, PLAIN, limit=None)


def test_a_damaged_entry_of_a_zip_is_named(pictures: Path):
    path = zipped(pictures)
    data = bytearray(path.read_bytes())
    data[data.find(b"IDAT") + 40] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"cat/0\.png"):
        open_samples(path, INPUT, PLAIN, limit=None)


def test_a_damaged_compressed_entry_is_named(pictures: Path, tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(pictures / "cat" / "0.png", "0.png")
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(range(235, 255))
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"0\.png"):
        open_samples(path, INPUT, PLAIN, limit=None)


def test_a_truncated_npz_is_refused(tmp_path: Path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(9 * 768, dtype=np.float32).reshape(9, 3, 16, 16))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[60:90] = bytes(range(200, 230))
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"readable \.npz"):
        open_samples(tmp_path / "a.npz", INPUT, PLAIN, limit=None)


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures_module, "MAX_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 22))
    with pytest.raises(UsageError, match=r"at most 65536 bytes.*a\.png"):
        open_samples(tmp_path / "bomb.zip", INPUT, PLAIN, limit=None)


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path):
    header = io.BytesIO()
    Image.new("L", (1, 1)).save(header, "PNG")
    data = bytearray(header.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"at most \d+ pixels.*huge\.png"):
        open_samples(tmp_path, INPUT, PLAIN, limit=None)


def test_pictures_need_a_picture_input(pictures: Path):
    with pytest.raises(UsageError, match="one float32 picture input"):
        open_samples(pictures, (*INPUT, TensorSpec("z", ("batch", 4))), None, limit=None)
    with pytest.raises(UsageError, match="picture"):
        open_samples(pictures, (TensorSpec("x", ("batch", 7)),), None, limit=None)


def test_shipped_samples_are_real_and_labelled():
    samples = shipped_samples("fashion_mnist", "test", GREY, None, limit=20)
    assert samples.count == 20
    assert samples.source.kind == "real"
    assert everything(samples).shape == (20, 1, 28, 28)
    assert set(samples.labels.tolist()) <= set(range(10))
    with pytest.raises(UsageError, match="fashion_mnist"):
        shipped_samples("fashion_mnits", "test", GREY, None, limit=20)
    with pytest.raises(UsageError, match="split"):
        shipped_samples("fashion_mnist", "tset", GREY, None, limit=20)


def test_the_shipped_splits_do_not_overlap():
    train, test = (shipped_samples("fashion_mnist", s, GREY, None, limit=None) for s in ("train", "test"))
    assert overlap(train, test) == 0
    assert overlap(train, train) == train.count


def test_overlap_finds_a_leaked_picture(pictures: Path, tmp_path: Path):
    leaked = tmp_path / "leaked"
    leaked.mkdir()
    (leaked / "renamed.png").write_bytes((pictures / "cat" / "4.png").read_bytes())
    a, b = (open_samples(p, INPUT, PLAIN, limit=None) for p in (leaked, pictures))
    assert overlap(a, b) == 1


def test_noise_for_integers_is_within_their_vocabulary():
    ids = TensorSpec("x", ("batch", 500), "int32", high=19)
    drawn = everything(synthetic_samples((ids,), count=6, seed=0))
    assert drawn.dtype == np.int32
    assert (drawn.min(), drawn.max()) == (0, 18)


def test_noise_says_that_it_is_synthetic():
    a, b = (synthetic_samples(INPUT, count=6, seed=4) for _ in range(2))
    assert a.source.kind == "synthetic"
    assert a.source == b.source
    assert synthetic_samples(INPUT, count=6, seed=5).source.sha256 != a.source.sha256
    np.testing.assert_array_equal(everything(a), everything(b))
