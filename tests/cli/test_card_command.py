"""`i2i card`: a card filled from what was measured and stated, beside what a person wrote."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from i2i.checkpoints.card import Card, Section, parse_card, render_card
from i2i.checkpoints.identity import name_model
from i2i.checkpoints.store import GeneratorSpec, ImageSide, read_card, save_generator
from i2i.cli import card as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import Provenance, write_image
from i2i.evaluation.findings import Figure, Findings
from i2i.evaluation.image_sets import ImageSet
from i2i.evaluation.report import Evaluation, about_set, as_json
from i2i.generators import CompactGenerator
from i2i.inference.profile import Cost, Latency, Measurement, Profile

LATENCY = Latency(p50_ms=10.0, p90_ms=11.0, p99_ms=12.0, readings=200)


def run(*arguments: str | Path) -> int:
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a generator."""
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
    folder = tmp_path / "run" / "generator"
    save_generator(
        folder, network=network, spec=GeneratorSpec(input=side, output=side), card="# Streets\n\nTrained for 3 steps."
    )
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": {}, "data fingerprint": "abc123"}))
    return folder


def write_evaluation(file: Path, *, model: str) -> Path:
    sets = {"generated": {"place": f"made by {model}", "images": 4}, "real": {"place": "held-out", "images": 4}}
    findings = Findings(figures={"ssim": Figure(value=0.5, low=0.4, high=0.6, images=4)})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(as_json(Evaluation(title="x", sets=sets, findings=findings, settings={}))))
    return file


def write_profile(file: Path, *, model: str) -> Path:
    words = dict.fromkeys(("processor", "cores", "threads", "accelerator", "system", "torch"), "x")
    measurement = Measurement(
        height=8,
        width=8,
        precision="fp32",
        batch=1,
        of="call",
        latency=LATENCY,
        images_per_s=100.0,
        peak_memory_bytes=None,
        flop_per_s=None,
        share_of_product=None,
    )
    profile = Profile(
        model=model,
        network="CompactGenerator",
        parameters=7,
        machine=words,
        memory="m",
        costs=(Cost(height=8, width=8, output=(3, 8, 8), multiply_adds=1, flop=2),),
        product_flop_per_s={},
        measurements=(measurement,),
        missing=(),
    )
    file.write_text(json.dumps(profile.to_json()))
    return file


def test_all_of_it(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    model = name_model(folder)
    evaluation = write_evaluation(tmp_path / "ev" / "evaluation.json", model=model)
    profile = write_profile(tmp_path / "profile.json", model=model)
    assert run(folder.parent, "--evaluation", evaluation.parent, "--profile", profile) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(folder / "README.md")
    assert "Not stated yet: what it is for (--intended-use), the source of the data (--data-source)" in printed.err
    options = ("--data-source", "CMP", "--data-licence", "CC BY-SA 4.0", "--intended-use", "Teaching.\n## Not more")
    assert run(folder, *options, "--limits", "Knows no night.", "Nor snow.", "--licence", "cc-by-4.0") == 0
    assert not capsys.readouterr().err

    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.to_dict()["library_name"] == "i2i"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("ssim", 0.5, "held-out")
    text = card.text
    assert text.strip().startswith("# Streets")
    for words in (
        "Trained for 3 steps.",
        "Teaching. ## Not more",
        "- Knows no night.\n- Nor snow.\n- Detail that an image does not hold is made up",
        "- **Source:** CMP\n- **Licence:** CC BY-SA 4.0\n- **Fingerprint:** `abc123`",
        "| ssim | 0.5 | 0.4 … 0.6 | 4 |",
        "**Copies of training images:** not looked for",
        "| 8 x 8 | fp32 | 1 | whole call | 10 | 11 | 12 | 200 | 100 |",
        "## What it makes is synthetic",
        'i2i.load("path/to/this/folder")',
    ):
        assert words in text
    before = (folder / "README.md").read_bytes()
    assert run(folder) == 0
    assert (folder / "README.md").read_bytes() == before


def test_figures_of_training_and_of_an_evaluation(tmp_path: Path, folder: Path) -> None:
    """In the card of an earlier version; the Hub is told of the evaluation alone."""
    file = folder / "README.md"
    card = parse_card(file.read_text())
    held_out = "| | ssim |\n|---|---|\n| this generator | 0.75 |"
    settings = '```json\n{\n  "seed": 0\n}\n```\n\nData fingerprint: `abc123`'
    title, *_, use = card.sections
    parts = (
        title,
        Section(heading="## Held-out metrics", text=held_out, ours=False),
        Section(heading="## Settings", text=settings, ours=False),
        use,
    )
    file.write_text(render_card(Card(header=card.header, sections=parts)))
    evaluation = write_evaluation(tmp_path / "evaluation.json", model=name_model(folder))
    assert run(folder, "--evaluation", evaluation) == 0
    text = file.read_text()
    assert text.count("abc123") == 1 and "- **Fingerprint:** `abc123`" in text
    found = parse_card(text)
    names = [part.name for part in found.sections]
    assert names.index("Held-out metrics") < names.index("Evaluation") < names.index("Settings")
    assert found.text("Settings") == '```json\n{\n  "seed": 0\n}\n```'
    assert found.text("Held-out metrics") == held_out
    assert '[{"type": "ssim", "name": "ssim", "value": 0.5}]' in found.header and "0.75" not in found.header


def test_words_of_a_person_are_kept(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "README.md"
    text = file.read_text().replace("Not stated by those who trained it.", "For my sister.")
    file.write_text(
        text.replace("library_name: i2i", "library_name: i2i\ndatasets:\n- anna/facades") + "\n## Thanks\n\nTo all.\n"
    )
    assert run(folder, "--intended-use", "Teaching.", "--data-licence", "CC0", "--licence", "Ask me first") == 0
    assert '"Intended use" was written or changed by hand' in capsys.readouterr().err
    text = file.read_text()
    assert "For my sister." in text
    assert "Teaching." not in text
    assert "## Thanks\n\nTo all.\n" in text
    assert "datasets:\n- anna/facades\n" in text
    assert 'license: "other"\nlicense_name: "ask-me-first"' in text
    assert "\n\nAsk me first\n\n" in text.partition("## Licence of the weights")[2]
    assert "- **Licence:** CC0" in text


@pytest.mark.parametrize(
    ("licence", "entries"),
    [
        ("MIT", {"license": "mit"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("mine", {"license": "other", "license_name": "mine"}),
        ("Nur für mich!", {"license": "other", "license_name": "nur-f-r-mich"}),
        ("自用", {"license": "other", "license_name": "own"}),
    ],
)
def test_licences(licence: str, entries: dict[str, str], folder: Path) -> None:
    for given in ("Another one first", licence):
        assert run(folder, "--licence", given) == 0
    header = yaml.safe_load(read_card(folder).header)
    assert {name: value for name, value in header.items() if name.startswith("license")} == entries
    assert read_card(folder).text("Licence of the weights") == licence


def test_figures_of_images_in_a_folder(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The images say who made them, or nobody knows, and the Hub is not told such figures."""
    model = name_model(folder)
    rng = np.random.default_rng(0)
    images = {
        "ours": [model] * 3,
        "theirs": ["other (sha256 ffffffffffff)"] * 3,
        "mixed": [model, model, None],
        "photos": [None] * 3,
    }
    files = {}
    for place, models in images.items():
        for number, name in enumerate(models):
            note = Provenance(kind="translated", model=name) if name else None
            write_image(tmp_path / place / f"{number}.png", rng.integers(0, 256, (4, 4, 3), np.uint8), provenance=note)
        about = about_set(ImageSet.find(tmp_path / place), place=str(tmp_path / place))
        findings = Findings(figures={"ssim": Figure(value=0.5, images=3)})
        evaluation = Evaluation(title="x", sets={"generated": about, "real": about}, findings=findings, settings={})
        files[place] = tmp_path / f"{place}.json"
        files[place].write_text(json.dumps(as_json(evaluation)))

    assert run(folder, "--evaluation", files["ours"]) == 0
    assert "not known" not in capsys.readouterr().err
    assert "model-index" in read_card(folder).header
    before = (folder / "README.md").read_bytes()
    assert run(folder, "--evaluation", files["theirs"]) == 2
    assert "its figures are of other (sha256 ffffffffffff), and the card is of run/generator" in capsys.readouterr().err
    assert (folder / "README.md").read_bytes() == before
    for place in ("mixed", "photos"):
        assert run(folder, "--evaluation", files[place]) == 0
        assert f"{files[place]}: not known who made these images" in capsys.readouterr().err
        assert "model-index" not in read_card(folder).header
        assert "It is not known which model made these images" in read_card(folder).text("Evaluation")


def test_a_card_that_is_somebodys_own_gains_what_is_missing(folder: Path) -> None:
    (folder / "README.md").write_text("My network.\n\n## Data\n\nFrom my phone.\n")
    assert run(folder) == 0
    card = read_card(folder)
    assert card.header.startswith("library_name: i2i")
    assert card.text("") == "My network."
    assert card.text("Data") == "From my phone."
    assert card.text("Use")
    (folder / "README.md").unlink()
    assert run(folder) == 0
    assert read_card(folder).sections[0].heading == "# run/generator"
    assert "`abc123`" in read_card(folder).text("Data")


def test_refused(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "README.md").read_bytes()
    other = "other (sha256 ffffffffffff)"
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "list.json").write_text("[]")
    for options, words in (
        (("--evaluation", write_evaluation(tmp_path / "e.json", model=other)), "e.json: its figures are of other"),
        (("--profile", write_profile(tmp_path / "p.json", model=other)), "p.json: its figures are of other"),
        (("--profile", tmp_path / "none.json"), "none.json cannot be read"),
        (("--profile", tmp_path / "text.json"), "text.json is no JSON"),
        (("--evaluation", tmp_path / "list.json"), "list.json: expected a JSON object"),
        (("--evaluation", tmp_path / "p.json"), "p.json: expected an evaluation.json"),
        (("--profile", tmp_path / "e.json"), "e.json: expected a profile"),
    ):
        assert run(folder, *options) == 2
        assert words in capsys.readouterr().err
    assert (folder / "README.md").read_bytes() == before
    assert run(tmp_path / "nowhere") == 2
