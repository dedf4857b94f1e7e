"""The note in an image file that a network made the picture: which one, and that no camera saw it.

It is a sentence, which stands where programs show a picture's description (PNG's text, EXIF, TIFF's tags), and an XMP
packet for programs: IPTC's DigitalSourceType, which platforms go by when they mark pictures as synthetic.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image

from i2i import __version__
from i2i.errors import InputError

Kind = Literal["drawn", "translated", "enlarged"]

# https://cv.iptc.org/newscodes/digitalsourcetype/
_SOURCE_TYPES: dict[Kind, str] = {
    "drawn": "trainedAlgorithmicMedia",
    "translated": "trainedAlgorithmicMedia",
    "enlarged": "algorithmicallyEnhanced",
}

_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
  xmlns:xmp="http://ns.adobe.com/xap/1.0/"
  xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
  xmp:CreatorTool={tool}
  Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{source_type}"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a picture came about.

    Attributes:
        kind: "drawn" from noise, "translated" from another picture, or "enlarged".
        model: the network by name, with what tells its weights from others'; one line of any letters.
        version: of i2i.

    Raises:
        InputError: another kind, no model, or more than a line of it.
    """

    kind: Kind
    model: str
    version: str = __version__

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind: expected one of {get_args(Kind)}, got {self.kind!r}")
        if not self.model.strip() or not self.model.isprintable():
            raise InputError(f"model: expected a line of text, got {self.model!r}")

    @property
    def software(self) -> str:
        """What wrote the file; ASCII."""
        return f"i2i {self.version}"

    @property
    def sentence(self) -> str:
        """All of it in words; `in_words` reads it again."""
        return f"synthetic image, {self.kind} by a neural network; model: {self.model}; made with i2i {self.version}"

    @property
    def xmp(self) -> str:
        """An XMP packet (ISO 16684-1) that names the program and the kind of source."""
        return _PACKET.format(tool=quoteattr(self.software), source_type=_SOURCE_TYPES[self.kind])

    @property
    def texts(self) -> dict[str, str]:
        """What stands in a PNG file, by its keywords (PNG, third edition, 11.3.3)."""
        return {"Software": self.software, "Description": self.sentence, "XML:com.adobe.xmp": self.xmp}

    @property
    def exif(self) -> bytes:
        """A block of EXIF data with the tags Software and ImageDescription."""
        tags = Image.Exif()
        tags[ExifTags.Base.Software] = self.software
        # Of letters beyond ASCII the standard says nothing; the Metadata Working Group's guidelines say UTF-8.
        tags[ExifTags.Base.ImageDescription] = self.sentence.encode()
        return tags.tobytes()


def in_words(text: str) -> Provenance | None:
    """What a description of a picture says, if it is a `Provenance.sentence`."""
    kinds = "|".join(get_args(Kind))
    pattern = rf"synthetic image, ({kinds}) by a neural network; model: (.+); made with i2i (\S+)"
    found = re.fullmatch(pattern, text.strip())
    if found is None or not found[2].strip() or not found[2].isprintable():
        return None
    return Provenance(kind=found[1], model=found[2], version=found[3])  # type: ignore[arg-type]


def in_exif(exif: bytes | None) -> Provenance | None:
    """What a block of EXIF data says."""
    if not exif:
        return None
    tags = Image.Exif()
    try:
        tags.load(exif)
        text = tags.get(ExifTags.Base.ImageDescription, "")
    except Exception:  # damaged tags say nothing
        return None
    if not isinstance(text, str):
        return None
    # Pillow reads bytes as Latin-1, whose letters are as many as there are bytes.
    return in_words(text.encode("latin-1", "replace").decode("utf-8", "replace"))
