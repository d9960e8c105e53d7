"""Elements of SVG as text, safe whatever the text holds."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tag(name: str, *children: str, **attributes: str | float) -> str:
    """Write an element; ``_`` in an attribute's name stands for ``-``, a trailing one for nothing."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_attribute(value))}"
        for key, value in attributes.items()
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def words(text: str) -> str:
    """Make any text safe inside an element."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _attribute(value: str | float) -> str:
    return (
        _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else f"{round(value, 2):g}"
    )
