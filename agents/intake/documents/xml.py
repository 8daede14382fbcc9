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


class _Bounded(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > _DEPTH_MAX:
            raise UnreadableError(f"nested more than {_DEPTH_MAX} levels deep", tag)
        if self._elements > _ELEMENTS_MAX:
            raise UnreadableError(f"more than {_ELEMENTS_MAX} elements", tag)
        if len(attrs) > _ATTRIBUTES_MAX:
            raise UnreadableError(f"more than {_ATTRIBUTES_MAX} attributes", tag)
        return super().start(tag, attrs)

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
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise UnreadableError("a document type and entities are not read: send the document without them") from error
    except ParseError as error:
        line, column = error.position
        raise UnreadableError(f"not XML: {error.msg}", f"line {line}, column {column}") from error
    except (ValueError, LookupError) as error:  # an encoding that is unknown, or that the bytes are not in
        raise UnreadableError(f"not XML: {error}") from error
    return root
