"""TensorRT's messages as reasons a person can use: without its sources' names and its error codes."""

from __future__ import annotations

import re

from ..sessions import reason

NO_OPERATOR = "TensorRT has no such operator"

_USAGE = re.compile(r"API Usage Error \((?:[^():]*: )?(.*?)(?:\. In \w+ at |\)\s*$|\)\n)", re.DOTALL)
_ASSERTION = re.compile(r'Assertion failed: .*?(?:&& "|(?<!:): )(.*?)"?$', re.DOTALL)
_BUILDER = re.compile(r"(?:\w+::)*\w+: Error Code \d+: \w+(?: \w+)* \((.*)\)\s*$", re.DOTALL)
_PLACE = re.compile(r"\[\w+\.\w+:\d+: \w+\] |\w+Exception: |\w+\.\w+:\d+: (?:CHECK\(.*?\) failed\. )?")
_TAIL = re.compile(r"\.? In \w+ at /?\S*$")
_ADVICE = re.compile(r"\s*\(See https?://.*|\. (?:Please|Alternatively)\b.*", re.DOTALL)


def parser_reason(text: str) -> str:
    """Give what the parser minds about a node."""
    if "Plugin not found" in text or "plugin creator" in text.lower() or "was not found in plugin" in text:
        return NO_OPERATOR
    if text.strip() == "false":
        return "TensorRT does not take this operator"
    for pattern in (_USAGE, _ASSERTION):
        if found := pattern.search(text):
            return _plain(found[1])
    return _plain(text)


def builder_reason(text: str) -> str:
    """Give what the builder minds about a network."""
    found = _BUILDER.search(text)
    return _plain(found[1] if found else text)


def _plain(text: str) -> str:
    without = _ADVICE.sub("", _TAIL.sub("", _PLACE.sub("", text)))
    return reason(ValueError(without.strip().rstrip(".")))
