"""Our docstrings as the site shows them: a line that says what a name means stays a line of its own."""

from __future__ import annotations

import re
from typing import Any

import griffe

MEANING = re.compile(r"^(?=[a-z_]\w*(, [a-z_]\w*)*: )", re.MULTILINE)


class Lines(griffe.Extension):
    """Puts an empty line before every line that begins with names and a colon."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = MEANING.sub("\n", obj.docstring.value)
