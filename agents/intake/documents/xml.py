"""XML from outside as plain elements: no document type, no entities, no access to anything, and bounds on all.

The rule: what is larger or deeper than a business document ever is, is refused while it is read, not after.
"""

from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from agents.intake.errors import UnreadableError

BYTES_MAX = 32 * 1024 * 1024
_DEPTH_MAX = 64
_ELEMENTS_MAX = 200_000
_ATTRIBUTES_MAX = 64
_CHUNK = 64 * 1024
_TAG_MAX = 1024 * 1024  # bytes: many attributes take time by the square of their number


class _Bounded(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        self._count()
        if self._depth > _DEPTH_MAX:
            raise UnreadableError(f"nested more than {_DEPTH_MAX} levels deep", tag[:200])
        if len(attrs) > _ATTRIBUTES_MAX:
            raise UnreadableError(f"more than {_ATTRIBUTES_MAX} attributes", tag[:200])
        return super().start(tag, attrs)

    def comment(self, text: str | None) -> Element:
        """Left out, but counted."""
        self._count()
        return Element("comment")

    def pi(self, target: str, text: str | None = None) -> Element:
        """Left out, but counted."""
        self._count()
        return Element("pi")

    def _count(self) -> None:
        self._elements += 1
        if self._elements > _ELEMENTS_MAX:
            raise UnreadableError(f"more than {_ELEMENTS_MAX} elements and comments")

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)


def read_xml(data: bytes) -> Element:
    """The root element; raises ``UnreadableError`` with the line, or with what is not allowed."""
    if len(data) > BYTES_MAX:
        raise UnreadableError(f"{len(data)} bytes of XML; {BYTES_MAX} are read")
    parser = DefusedXMLParser(target=_Bounded(), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        for start in range(0, len(data), _CHUNK):
            parser.feed(data[start : start + _CHUNK])
            if start - parser.parser.CurrentByteIndex > _TAG_MAX:
                raise UnreadableError(f"a tag or comment is longer than {_TAG_MAX} bytes")
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise UnreadableError("a document type and entities are not read: send the document without them") from error
    except ParseError as error:
        line, column = error.position
        raise UnreadableError(f"not XML: {error.msg}", f"line {line}, column {column}") from error
    except (ValueError, LookupError) as error:  # an encoding that is unknown, or that the bytes are not in
        raise UnreadableError(f"not XML: {error}") from error
    return root
