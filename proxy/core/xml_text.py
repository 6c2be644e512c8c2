"""XML as a tree that expressions can walk.

The root element is the one name at the top. An element with nothing but text is that text; else an object of its
children by name, of its attributes by ``@name``, and of its text under ``#text``. A name met twice is a list. Prefixes
and namespaces are dropped. Document types, and with them entities, are refused: they are how XML bombs are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

NESTING_MAX: Final = 128
"""Levels of elements."""

ELEMENTS_MAX: Final = 100_000
"""Elements and attributes of one document; each costs far more memory than its text."""


class XmlInvalid(ValueError):
    """The body is no XML we read; the message tells why, without quoting it."""


def read_xml(body: bytes) -> dict[str, object]:
    """*body* as a tree. Raises :class:`XmlInvalid`."""
    tree = _Tree()
    parser = DefusedXMLParser(target=tree, forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
    except ParseError as problem:
        line, column = problem.position
        raise XmlInvalid(f"not XML at line {line}, column {column}") from None
    except DefusedXmlException:
        raise XmlInvalid("it has a document type") from None
    except (LookupError, ValueError) as problem:
        raise XmlInvalid(str(problem) if isinstance(problem, XmlInvalid) else "its encoding is unknown") from None
    return tree.root


class _Tree:
    """Builds the tree while the parser runs, so that limits hold before the memory is spent."""

    def __init__(self) -> None:
        self.root: dict[str, object] = {}
        self._elements = 0
        self._open: list[tuple[str, dict[str, object], list[str]]] = [("", self.root, [])]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if len(self._open) > NESTING_MAX:
            raise XmlInvalid(f"nested deeper than {NESTING_MAX} levels")
        self._elements += 1 + len(attributes)
        if self._elements > ELEMENTS_MAX:
            raise XmlInvalid(f"more than {ELEMENTS_MAX} elements")
        members: dict[str, object] = {f"@{_local(name)}": value for name, value in attributes.items()}
        self._open.append((_local(tag), members, []))

    def data(self, text: str) -> None:
        self._open[-1][2].append(text)

    def end(self, _tag: str) -> None:
        name, members, texts = self._open.pop()
        text = "".join(texts).strip()
        if text and members:
            members["#text"] = text
        parent = self._open[-1][1]
        value = members or text
        if name not in parent:
            parent[name] = value
        elif isinstance(known := parent[name], list):
            known.append(value)
        else:
            parent[name] = [known, value]


def _local(name: str) -> str:
    return name.rpartition("}")[2]
