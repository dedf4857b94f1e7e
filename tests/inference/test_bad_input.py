"""Whatever a person hands in ends in a result or in a sentence: known kinds of bad input, and 500 damaged files."""

import io
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
from PIL import Image
from torch import Tensor

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import translate as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image, read_image_file, write_image
from i2i.errors import InputError
from i2i.generators import CompactGenerator, UNetGenerator


def translate(*arguments: str | Path) -> int:
    """Run `i2i translate` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def compact_tensors(*, width: int = 4, scale: int = 2) -> dict[str, Tensor]:
    """Real-ESRGAN's compact network, as its files name it. Zeros: the result is the repeated input."""
    return {
        "body.0.weight": torch.zeros(width, 3, 3, 3),
        "body.0.bias": torch.zeros(width),
        "body.1.weight": torch.zeros(width),
        "body.2.weight": torch.zeros(width, width, 3, 3),
        "body.2.bias": torch.zeros(width),
        "body.3.weight": torch.zeros(width),
        "body.4.weight": torch.zeros(3 * scale**2, width, 3, 3),
        "body.4.bias": torch.zeros(3 * scale**2),
    }


def resnet_tensors(*, width: int = 2) -> dict[str, Tensor]:
    """CycleGAN's ResNet generator with instance norm and one block."""
    wide = 4 * width
    shapes = {
        "1": (width, 3, 7, 7),
        "4": (2 * width, width, 3, 3),
        "7": (wide, 2 * width, 3, 3),
        "10.conv_block.1": (wide, wide, 3, 3),
        "10.conv_block.5": (wide, wide, 3, 3),
        "11": (wide, 2 * width, 3, 3),
        "14": (2 * width, width, 3, 3),
        "18": (3, width, 7, 7),
    }
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"model.{name}.weight"] = torch.randn(shape) / 10
        transposed = name in ("11", "14")
        tensors[f"model.{name}.bias"] = torch.zeros(shape[1] if transposed else shape[0])
    return tensors


def unet_tensors(*, width: int = 2, depth: int = 4) -> dict[str, Tensor]:
    """pix2pix's U-Net generator with batch norm."""
    tensors = {"model.model.0.weight": torch.randn(width, 3, 4, 4) / 10}

    def norm(name: str, channels: int) -> None:
        values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        tensors.update({f"{name}.{leaf}": torch.full((channels,), value) for leaf, value in values.items()})
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(1)

    level = "model.model.1"
    for n in range(1, depth):
        outer, inner = width * 2 ** (n - 1), width * 2**n
        tensors[f"{level}.model.1.weight"] = torch.randn(inner, outer, 4, 4) / 10
        if n == depth - 1:
            tensors[f"{level}.model.3.weight"] = torch.randn(inner, outer, 4, 4) / 10
            norm(f"{level}.model.4", outer)
        else:
            norm(f"{level}.model.2", inner)
            tensors[f"{level}.model.5.weight"] = torch.randn(2 * inner, outer, 4, 4) / 10
            norm(f"{level}.model.6", outer)
        level += ".model.3"
    tensors["model.model.3.weight"] = torch.randn(2 * width, 3, 4, 4) / 10
    tensors["model.model.3.bias"] = torch.zeros(3)
    return tensors


def random_image(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def enlarged(image: np.ndarray) -> np.ndarray:
    return image.repeat(2, axis=0).repeat(2, axis=1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A compact network that repeats each pixel."""
    torch.save(compact_tensors(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def write_truncated_png(path: Path) -> None:
    write_image(path, random_image(64, 64, 3))
    path.write_bytes(path.read_bytes()[:5000])


def write_truncated_jpeg(path: Path) -> None:
    write_image(path.with_suffix(".jpg"), random_image(64, 64, 3))
    path.write_bytes(path.with_suffix(".jpg").read_bytes()[:3000])
    path.with_suffix(".jpg").unlink()


def write_nan(path: Path) -> None:
    image = np.zeros((8, 9, 3), np.float32)
    image[3, 4, 1] = np.nan
    np.save(path.with_suffix(".npy"), image)
    path.with_suffix(".npy").rename(path)


def write_nan_tiff(path: Path) -> None:
    image = np.zeros((8, 9, 3), np.float32)
    image[3, 4, 1] = np.inf
    tifffile.imwrite(path, image, photometric="rgb")


BAD_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated PNG": (write_truncated_png, "truncated"),
    "truncated JPEG": (write_truncated_jpeg, "truncated"),
    "zero bytes": (lambda path: path.write_bytes(b""), "empty"),
    "a text": (lambda path: path.write_text("this is no image"), "this is no image"),
    "NaN in .npy": (write_nan, "1 NaN or infinite values"),
    "infinity in a TIFF": (write_nan_tiff, "1 NaN or infinite values"),
    "five bands": (lambda path: tifffile.imwrite(path, random_image(8, 9, 5), photometric="minisblack"), "got 5"),
    "0 to 255 in floats": (
        lambda path: tifffile.imwrite(path, 255 * np.ones((8, 9, 3), "f4"), photometric="rgb"),
        "255",
    ),
    "pickled objects": (lambda path: path.write_bytes(pickled_array()), "readable|pickle|object"),
    "a folder": (lambda path: path.mkdir(), "folder|directory|no image"),
}


def pickled_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


class Payload:
    """Runs code when unpickled: it makes a folder beside this test's files."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (os.environ["PAYLOAD"],)


@pytest.fixture(autouse=True)
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What appears when a `Payload` runs."""
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "ran"))
    return tmp_path / "ran"


def test_the_payload_is_live(payload: Path) -> None:
    pickle.loads(pickle.dumps(Payload()))
    assert payload.exists()


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images(
    kind: str, tmp_path: Path, weights: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, message = BAD_IMAGES[kind]
    image = tmp_path / "image.png"
    write(image)
    before = files(tmp_path)

    with pytest.raises(InputError, match=message) as error:
        i2i.load(weights)(image)
    assert str(image) in str(error.value)

    assert translate(image, tmp_path / "out" / "result.tif", "--weights", weights) in (1, 2)
    told = capsys.readouterr().err
    assert str(image) in told
    assert "Traceback" not in told
    assert files(tmp_path) == before
    assert not payload.exists()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 20000, 3), (20000, 1, 3)])
@pytest.mark.parametrize("options", [[], ["--exact", "--tile-px", "128"], ["--no-exact", "--tile-px", "128"]])
def test_odd_sizes_are_translated(shape: tuple[int, ...], options: list[str], tmp_path: Path, weights: Path) -> None:
    image = random_image(*shape)
    write_image(tmp_path / "image.png", image)
    assert translate(tmp_path / "image.png", tmp_path / "result.png", "--weights", weights, *options) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "result.png"), enlarged(image))
    np.testing.assert_array_equal(i2i.load(weights)(tmp_path / "image.png"), enlarged(image))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 20000, 3)])
@pytest.mark.parametrize("tensors", [resnet_tensors, unet_tensors])
def test_odd_sizes_go_through_networks_that_halve(
    shape: tuple[int, ...], tensors: Callable[[], dict[str, Tensor]], tmp_path: Path
) -> None:
    torch.save(tensors(), tmp_path / "weights.pth")
    write_image(tmp_path / "image.png", random_image(*shape))
    weights = tmp_path / "weights.pth"
    assert translate(tmp_path / "image.png", tmp_path / "result.png", "--weights", weights, "--device", "cpu") == 0
    assert read_image(tmp_path / "result.png").shape == shape


@pytest.mark.timeout(30)
def test_pages_that_lead_in_circles_end(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", random_image(2, 8, 9, 3), photometric="rgb", metadata=None)
    data = bytearray((tmp_path / "pages.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "pages.tif") as file:
        last = file.pages[1].offset
    entries = int.from_bytes(data[last : last + 2], "little")
    following = last + 2 + 12 * entries  # TIFF 6.0, section 2: where the next directory's place is said
    data[following : following + 4] = last.to_bytes(4, "little")
    (tmp_path / "circle.tif").write_bytes(data)
    outcome(lambda: read_image_file(tmp_path / "circle.tif"), case="circle")


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["body.2.bias"]


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors["body.2.weight"] = torch.zeros(4, 4, 5, 3)


def add(tensors: dict[str, Tensor]) -> None:
    tensors["body.2.gamma"] = torch.zeros(4)


def spoil(tensors: dict[str, Tensor]) -> None:
    tensors["body.2.weight"][0, 0, 0, 0] = np.nan


def convert(tensors: dict[str, Tensor]) -> None:
    tensors["body.2.weight"] = torch.zeros(4, 4, 3, 3, dtype=torch.int64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop, r"body\.2\.bias is missing"),
        (reshape, r"body\.2\.weight has shape \(4, 4, 5, 3\), expected \(4, 4, 3, 3\)"),
        (add, r"body\.2\.gamma \(4,\) is left over"),
        (spoil, r"1 of 144 values of body\.2\.weight are NaN"),
        (convert, r"body\.2\.weight holds torch\.int64"),
    ],
)
def test_bad_tensors(
    edit: Callable[[dict[str, Tensor]], None],
    message: str,
    suffix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = compact_tensors()
    edit(tensors)
    weights = tmp_path / f"weights{suffix}"
    weights.write_bytes(safetensors.torch.save(tensors) if suffix == ".safetensors" else saved(tensors))
    refused(weights, message, tmp_path, capsys)


def saved(content: Any, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def refused(weights: Path, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`i2i.load` and the command say the message and the file's name, and nothing is made."""
    write_image(folder / "image.png", random_image(4, 4, 3))
    before = files(folder)
    with pytest.raises(InputError, match=message) as error:
        i2i.load(weights)
    assert str(weights) in str(error.value)
    assert translate(folder / "image.png", folder / "out" / "result.png", "--weights", weights) == 2
    assert capsys.readouterr() == ("", f"{error.value}\n")
    assert files(folder) == before
    assert not (folder / "out").exists()


@pytest.mark.parametrize("content", ["legacy", "zip", "pickle"])
@pytest.mark.parametrize("place", ["alone", "as a tensor", "beside tensors"])
def test_code_in_weights_never_runs(
    content: str, place: str, tmp_path: Path, payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value: Any = {
        "alone": Payload(),
        "as a tensor": {**compact_tensors(), "body.2.bias": Payload()},
        "beside tensors": {"params": compact_tensors(), "optimizer": Payload()},
    }[place]
    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(value) if content == "pickle" else saved(value, legacy=content == "legacy"))
    message = (
        r"would run (os|posix|nt)\.mkdir" if content != "pickle" else r"weights\.pth .*holds more than tensors.*code"
    )
    refused(weights, message, tmp_path, capsys)
    assert not payload.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80", b"PK\x03\x04", b'\x10\0\0\0\0\0\0\0{"a": 1}      '])
def test_files_that_are_no_weights(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(content)
    refused(weights, "is no weight file", tmp_path, capsys)


def test_a_place_below_a_file_is_refused_before_any_work(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "image.png", random_image(4, 4, 3))
    before = files(tmp_path)
    (tmp_path / "weights.pth").rename(tmp_path / "moved.pth")  # the weights are not even looked at
    assert translate(tmp_path / "image.png", tmp_path / "image.png" / "out" / "result.png", "--weights", weights) == 2
    assert f"{tmp_path / 'image.png'} is a file" in capsys.readouterr().err
    assert {path.name for path in files(tmp_path)} == {path.name for path in before} - {"weights.pth"} | {"moved.pth"}


IMAGE_CASES = 320
WEIGHT_CASES = 180


def damage(data: bytes, others: list[bytes], rng: random.Random) -> tuple[str, bytes]:
    """Bytes with one to three faults, and what was done to them."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed = bytearray(data)
        size = max(len(changed), 1)
        kind = rng.choice(("flip", "flip", "header", "header", "truncate", "splice", "zero", "cut", "repeat"))
        start, length = rng.randrange(size), rng.randrange(1, 1 + size // 4 + 1)
        match kind:
            case "flip":
                for _ in range(rng.choice((1, 3, 30))):
                    place = rng.randrange(size)
                    changed[place : place + 1] = bytes([changed[place] ^ 1 << rng.randrange(8)]) if changed else b""
            case "header":
                for _ in range(rng.randint(1, 4)):
                    place = rng.randrange(min(size, 200))
                    changed[place : place + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
            case "truncate":
                del changed[start:]
            case "splice":
                other = rng.choice(others)
                place = rng.randrange(len(other))
                changed[start : start + length] = other[place : place + length]
            case "zero":
                changed[start : start + length] = bytes(min(length, len(changed) - start))
            case "cut":
                del changed[start : start + length]
            case "repeat":
                changed[start:start] = changed[start : start + length]
        done.append(f"{kind} at {start} of {size}")
        data = bytes(changed)
    return ", ".join(done), data


def outcome(action: Callable[[], Any], *, case: str) -> str:
    """ "result" or "InputError"; anything else fails with the case's name."""
    try:
        action()
    except InputError as error:
        assert str(error).strip(), f"{case}: an error without a word"
        return "InputError"
    except (Exception, pytest.fail.Exception) as error:  # the latter when time is over
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    return "result"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def sample_images(folder: Path) -> dict[str, bytes]:
    """Small images of every kind that is read."""
    colours, wide = random_image(16, 24, 3), random_image(16, 24, 3, dtype=np.uint16)
    photo = Image.fromarray(colours)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    write_image(folder / "wide.png", wide)
    return {
        "png": encoded(photo, "PNG", exif=exif),
        "png with alpha": encoded(Image.fromarray(random_image(16, 24, 4)), "PNG"),
        "png with palette": encoded(photo.quantize(16), "PNG", transparency=0),
        "png of 16 bits": (folder / "wide.png").read_bytes(),
        "jpeg": encoded(photo, "JPEG", exif=exif, icc_profile=b"profile" * 20),
        "progressive jpeg": encoded(photo, "JPEG", progressive=True),
        "grey jpeg": encoded(photo.convert("L"), "JPEG"),
        "cmyk jpeg": encoded(photo.convert("CMYK"), "JPEG"),
        "webp": encoded(photo, "WEBP"),
        "lossless webp": encoded(Image.fromarray(random_image(16, 24, 4)), "WEBP", lossless=True),
        "bmp": encoded(photo, "BMP"),
        "bmp with palette": encoded(photo.quantize(16), "BMP"),
        "tiff": tiff(colours, photometric="rgb"),
        "tiled tiff": tiff(wide, photometric="rgb", tile=(16, 16), compression="zlib", predictor=True),
        "pages of tiff": tiff(random_image(3, 16, 24, 3), photometric="rgb", compression="lzw"),
        "jpeg in tiff": tiff(colours, photometric="rgb", compression="jpeg"),
        "palette in tiff": encoded(photo.quantize(16), "TIFF"),
        "floats in tiff": tiff(colours.astype(np.float32) / 255, photometric="rgb", bigtiff=True),
        "npy": npy(colours),
        "floats in npy": npy(colours / 255),
    }


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_end_in_a_result_or_a_sentence(tmp_path: Path, weights: Path) -> None:
    samples = sample_images(tmp_path)
    t = i2i.load(weights)
    image = tmp_path / "damaged"
    # Undamaged, each is translated; else the rest would show little.
    for name, data in samples.items():
        image.write_bytes(data)
        assert outcome(lambda: t.translate_file(read_image_file(image)), case=name) == "result"

    outcomes = []
    for number in range(IMAGE_CASES):
        rng = random.Random(number)
        name = list(samples)[number % len(samples)]
        done, data = damage(samples[name], list(samples.values()), rng)
        image.write_bytes(data)
        outcomes.append(outcome(lambda: t.translate_file(read_image_file(image)), case=f"{number}: {name}, {done}"))
    # If all ended in the same way, the damage would be too great or too small to tell.
    assert min(outcomes.count("result"), outcomes.count("InputError")) > IMAGE_CASES // 10


def damage_tensors(tensors: dict[str, Tensor], rng: random.Random) -> tuple[str, dict[str, Tensor]]:
    """A file that is whole but holds something odd."""
    names = list(tensors)
    name = rng.choice([name for name in names if tensors[name].ndim])
    old = tensors[name]
    odd: Any = rng.choice(
        (
            old[None],
            old[:0],
            old.flatten(),
            old.transpose(0, -1),
            torch.cat([old, old]),
            old.to(torch.complex64),
            old.bool(),
            old.half(),
            old.to(torch.float8_e4m3fn),
            torch.full_like(old, 1e30),
            torch.full_like(old, -1),
            old.to_sparse(),
            {},
            None,
            "text",
        )
    )
    edited: dict[Any, Any] = {**tensors, name: odd}
    kind = rng.choice(("value", "value", "drop", "rename", "swap", "number"))
    match kind:
        case "drop":
            del edited[name]
        case "rename":
            edited[rng.choice(("", ".", f"{name}.weight", "model", "conv_first.weight"))] = edited.pop(name)
        case "swap":
            other = rng.choice(names)
            edited = {**tensors, name: tensors[other], other: old}
        case "number":
            edited[0] = edited.pop(name)
    return f"{kind} of {name}", edited


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
def test_damaged_weights_end_in_a_result_or_a_sentence(tmp_path: Path) -> None:
    networks = {"resnet": resnet_tensors(), "unet": unet_tensors(), "compact": compact_tensors()}
    samples = {}
    for name, tensors in networks.items():
        samples[f"{name}.pth"] = saved(tensors)
        samples[f"{name} legacy.pth"] = saved({"params": tensors}, legacy=True)
        samples[f"{name}.safetensors"] = safetensors.torch.save(tensors)
    folder = tmp_path / "ours"
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    generator = UNetGenerator(in_channels=3, out_channels=3, width=2, depth=3)
    save_generator(folder, network=generator, spec=GeneratorSpec(input=side, output=side), card="")
    ours = {name: (folder / name).read_bytes() for name in ("config.json", "generator.safetensors")}
    image = random_image(9, 10, 3)

    def use(weights: Path) -> Callable[[], Any]:
        return lambda: i2i.load(weights)(image)

    for name, data in samples.items():
        (tmp_path / name).write_bytes(data)
        assert outcome(use(tmp_path / name), case=name) == "result"
    assert outcome(use(folder), case="ours") == "result"

    outcomes = []
    for number in range(WEIGHT_CASES):
        rng = random.Random(number)
        match number % 3:
            case 0:
                name = list(samples)[number // 3 % len(samples)]
                done, data = damage(samples[name], list(samples.values()), rng)
                weights = tmp_path / f"damaged {name}"
            case 1:
                name = rng.choice(list(networks))
                done, tensors = damage_tensors(networks[name], rng)
                data = saved(tensors, legacy=rng.random() < 0.3)
                weights = tmp_path / "damaged.pth"
            case _:
                name = rng.choice(list(ours))
                done, data = damage(ours[name], list(ours.values()), rng)
                weights = folder / name
        weights.write_bytes(data)
        source = folder if weights.parent == folder else weights
        outcomes.append(outcome(use(source), case=f"{number}: {name}, {done}"))
        if source == folder:
            weights.write_bytes(ours[name])
    assert min(outcomes.count("result"), outcomes.count("InputError")) > WEIGHT_CASES // 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 10**9),
        ("width", -1),
        ("width", "wide"),
        ("scale", 0),
        ("in_channels", None),
        ("activation", "none"),
        ("unheard_of", 1),
    ],
)
def test_odd_arguments_in_a_folder_of_ours(name: str, value: Any, tmp_path: Path) -> None:
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    generator = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    save_generator(tmp_path / "ours", network=generator, spec=GeneratorSpec(input=side, output=side), card="")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    config["arguments"][name] = value
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="ours"):
        i2i.load(tmp_path / "ours")
