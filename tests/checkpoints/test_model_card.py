"""Model cards: what i2i writes anew in them, and what it never does."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from i2i.checkpoints.card import (
    DATA,
    EVALUATION,
    INTENDED_USE,
    LIMITS,
    NOTICE,
    PERFORMANCE,
    USE,
    Card,
    Section,
    bullets,
    data_section,
    entries_in,
    last_name,
    parse_card,
    render_card,
    section,
    table,
    updated,
    with_entry,
    without_folders,
    written_anew,
)
from i2i.checkpoints.store import GeneratorSpec, ImageSide, load_generator, read_card, save_generator, write_card
from i2i.errors import InputError
from i2i.generators import CompactGenerator, DCGANGenerator

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
HEADER = "library_name: i2i\ntags:\n- image-to-image\n# license: name it"
CARD = Card(
    header=HEADER,
    sections=(
        Section(heading="# Streets", text="By night.\n\nTrained for 3 steps."),
        data_section(fingerprint="abc"),
        section(USE, "```python\n# no heading\n\n## nor this\n```"),
    ),
)


def names(card: Card) -> list[str]:
    return [part.name for part in card.sections]


def test_a_card_is_read_as_it_was_written() -> None:
    text = render_card(CARD)
    assert parse_card(text) == CARD
    assert text.startswith("---\nlibrary_name: i2i\n")
    assert render_card(parse_card(text)) == text
    assert parse_card(text.replace("\n", "\r\n")) == CARD  # saved on Windows
    assert all(part.ours for part in parse_card(text.replace("By night.", "By  night. ")).sections)  # and re-wrapped


@pytest.mark.parametrize("text", ["", "no heading at all", "# One\n", "---\na: 1\n---\n", "## A\n\n## A\n\nx\n"])
def test_anybodys_card(text: str) -> None:
    """What a person wrote is theirs, and comes back in the same order."""
    card = parse_card(text)
    assert not any(part.ours for part in card.sections)
    assert parse_card(render_card(card)) == card
    assert [line for line in render_card(card).splitlines() if line] == [line for line in text.splitlines() if line]


def test_sections_are_written_anew_in_their_places() -> None:
    card, kept = updated(CARD, [section(EVALUATION, "good"), data_section(fingerprint="def", licence="CC0")])
    assert kept == ()
    assert names(card) == ["#", DATA, EVALUATION, USE]
    assert entries_in(card.text(DATA)) == {"Source": "not stated", "Licence": "CC0", "Fingerprint": "`def`"}
    again, _ = updated(card, [section(EVALUATION, "better")])
    assert again.text(EVALUATION) == "better"
    assert names(again) == names(card)


def test_what_a_person_wrote_is_never_lost() -> None:
    text = render_card(CARD)
    text = text.replace("- **Source:** not stated", "- **Source:** my own camera, with love")
    text = text.replace("## Use", "## Thanks\n\nTo all.\n\n```sh\n## no heading\n```\n\n### Deeper\n\nToo.\n\n## Use")
    card, kept = updated(parse_card(text), [data_section(fingerprint="def"), section(PERFORMANCE, "fast")])
    assert kept == (DATA,)
    assert names(card) == ["#", DATA, "Thanks", PERFORMANCE, USE]
    written = render_card(card)
    assert "my own camera, with love" in written
    assert "To all.\n\n```sh\n## no heading\n```\n\n### Deeper\n\nToo." in written
    assert "def" not in written
    assert [part.ours for part in parse_card(written).sections] == [True, False, False, True, True]
    again, kept = updated(parse_card(written), [data_section(fingerprint="ghi")])
    assert kept == (DATA,)
    assert render_card(again) == written


def test_new_weights_have_no_old_figures() -> None:
    """What people wrote or said stays; what was measured goes, also out of the header."""
    old = updated(
        CARD,
        [
            section(EVALUATION, "good"),
            section(INTENDED_USE, "Teaching."),
            data_section(fingerprint="abc", licence="CC0"),
        ],
    )[0]
    old = replace(old, header=with_entry(with_entry(HEADER, "license", "mit"), "model-index", [{"name": "x"}]))
    old = parse_card(render_card(old).replace("## Use", "## Thanks\n\nTo all.\n\n## Use"))
    new = replace(CARD, sections=(Section(heading="# Streets", text="Trained for 9 steps."), *CARD.sections[1:]))
    card = written_anew(old, new)
    assert names(card) == ["#", INTENDED_USE, DATA, "Thanks", USE]
    assert card.text("#") == "Trained for 9 steps."
    assert entries_in(card.text(DATA))["Licence"] == "CC0"
    assert yaml.safe_load(card.header) == {"library_name": "i2i", "tags": ["image-to-image"], "license": "mit"}
    other = written_anew(old, replace(new, sections=(data_section(fingerprint="other"),)))
    assert entries_in(other.text(DATA))["Licence"] == "not stated"


def test_a_fingerprint_of_several_parts_is_one_number() -> None:
    """And is known again in a card by an earlier version, whose facts are kept."""
    shown = hashlib.sha256(b"1edf 32 (64, False)").hexdigest()
    now = data_section(fingerprint="1edf 32 (64, False)")
    assert entries_in(now.text)["Fingerprint"] == f"`{shown}`"
    assert data_section(fingerprint=shown) == now
    old = data_section(fingerprint="1edf", licence="CC0")
    old = replace(old, text=old.text.replace("`1edf`", "`1edf 32 (64, False)`"))
    card = written_anew(replace(CARD, sections=(old,)), replace(CARD, sections=(now,)))
    assert entries_in(card.text(DATA)) == {"Source": "not stated", "Licence": "CC0", "Fingerprint": f"`{shown}`"}


BEFORE_MARKS = """---
library_name: i2i
license: mit
---

# Streets

By night.

Trained for 3 steps.

## Held-out metrics

| | psnr |
|---|---|
| this generator | 9.87 |

## Settings

```json
{
  "data": "/home/anna/streets"
}
```

Data fingerprint: `abc`

## Use

```python
import i2i
```
"""


def test_cards_from_before_there_were_marks() -> None:
    """They are written anew only where all of them is as i2i wrote it then."""
    new = replace(
        CARD, sections=(Section(heading="# Streets", text="By night.\n\nTrained for 9 steps."), section(USE, "!"))
    )
    card = written_anew(parse_card(BEFORE_MARKS), new)
    assert names(card) == ["#", DATA, USE]
    assert card.text("#").endswith("Trained for 9 steps.")
    assert card.header == "library_name: i2i\nlicense: mit"
    assert "9.87" not in render_card(card)
    for theirs in (
        BEFORE_MARKS.replace("By night.", "By night, for my sister."),
        BEFORE_MARKS.replace("| this", "Not bad:\n\n| this"),
        BEFORE_MARKS + "\n## Thanks\n\nTo all.\n",
    ):
        kept = render_card(written_anew(parse_card(theirs), new))
        for line in theirs.splitlines():
            assert line in kept


def test_a_card_without_marks_is_a_persons(tmp_path: Path) -> None:
    save(tmp_path, text="# Streets\n\nTrained for 3 steps.")
    theirs = "---\nlicense: mit\nmodel-index: []\n---\n\n# My model\n\nFor my sister.\n\n## Thanks\n\nTo all.\n"
    (tmp_path / "README.md").write_text(theirs)
    for _ in range(2):
        card = save(tmp_path, text="# Streets\n\nTrained for 9 steps.")
        assert card.text("#") == "For my sister."
        assert card.text("Thanks") == "To all."
    assert "license: mit" in card.header
    assert card.text(USE)


def test_entries_of_the_header() -> None:
    header = "a: 1\n# license: later\nmodel-index:\n- name: x\n  results: []\n# a comment\ntags:\n- b\n"
    changed = with_entry(with_entry(header, "license", "cc-by-4.0"), "model-index", [{"name": "ä: b", "v": 0.5}])
    assert yaml.safe_load(changed) == {
        "a": 1,
        "tags": ["b"],
        "license": "cc-by-4.0",
        "model-index": [{"name": "ä: b", "v": 0.5}],
    }
    assert "later" not in changed
    assert yaml.safe_load(with_entry(changed, "license", None)).keys() == {"a", "tags", "model-index"}


def test_lists_and_tables() -> None:
    assert bullets(["one\n  line", "two"]) == "- one line\n- two"
    assert table([["a", "b"], ["1|2", ""]]) == "| a | b |\n|---|---|\n| 1\\|2 |  |"


def save(folder: Path, *, text: str, restores: bool = True) -> Card:
    network = (
        CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=2)
        if restores
        else DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=8)
    )
    spec = GeneratorSpec(input=UINT8 if restores else None, output=UINT8)
    save_generator(folder, network=network, spec=spec, card=text)
    return read_card(folder)


def test_every_card_says_what_every_card_should(tmp_path: Path) -> None:
    card = save(tmp_path / "a", text="# Streets\n\nEnlarged.")
    assert names(card) == ["#", INTENDED_USE, LIMITS, DATA, NOTICE, USE]
    assert all(part.ours for part in card.sections)
    assert "number plates" in card.text(LIMITS)
    assert "synthetic" in card.text(NOTICE)
    assert set(entries_in(card.text(DATA)).values()) == {"not stated"}
    assert "close to some of them" in save(tmp_path / "b", text="", restores=False).text(LIMITS)


def test_saving_again_keeps_what_was_written_into_the_card(tmp_path: Path) -> None:
    card = save(tmp_path, text="# Streets\n\nTrained for 3 steps.")
    write_card(tmp_path, replace(card, sections=(*card.sections, Section(heading="## Mine", text="!", ours=False))))
    again = save(tmp_path, text="# Streets\n\nTrained for 9 steps.")
    assert again.text("#") == "Trained for 9 steps."
    assert again.text("Mine") == "!"


def test_a_card_that_is_no_text_is_put_aside(tmp_path: Path) -> None:
    """No run loses its weights for it."""
    for number, content in enumerate((b"\xff\xfe\x00", b"\xff")):
        save(tmp_path / "net", text="# Streets")
        (tmp_path / "net" / "generator.safetensors").unlink()
        (tmp_path / "net" / "README.md").write_bytes(content)
        aside = f"README.md.old{number or ''}"
        with pytest.warns(UserWarning, match=rf"README\.md cannot be read .* lies in .*{aside} now"):
            assert save(tmp_path / "net", text="# Streets").text(USE)
        assert (tmp_path / "net" / aside).read_bytes() == content
        load_generator(tmp_path / "net")
    (tmp_path / "net" / "README.md").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read"):  # where only the card is asked for
        read_card(tmp_path / "net")


@pytest.mark.parametrize("fence", ["```", "````", "~~~", "~~~~~"])
def test_code_is_no_heading(fence: str) -> None:
    """A block ends with as many of its own letters, or more, and nothing behind them (CommonMark 0.31, 4.5)."""
    inner = "~~~" if fence[0] == "`" else "```"
    block = [f"{fence}md", "## no", fence[:-1], inner, f"{fence}no end", "## nor this", fence + fence[0]]
    text = "\n".join(["## A", *block, "## B", "``` a ```", "## C"])
    assert names(parse_card(text)) == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/home/anna/gen/", "gen"),
        ("anna.meier/gen", "gen"),
        ("~/secret", "secret"),
        ("C:\\Users\\anna\\real", "real"),
        ("gen", "gen"),
        ("/", "/"),
    ],
)
def test_paths_by_their_last_names(place: str, name: str) -> None:
    assert last_name(place) == name


def test_paths_in_sentences() -> None:
    text = "/home/anna meier/gen holds 3 images: anna/1.png (of b\\2.png, ~/c). Of 2 sizes."
    shown = "gen holds 3 images: 1.png (of 2.png, c). Of 2 sizes."
    assert without_folders(text, places=["gen", "/home/anna meier/gen"]) == shown
