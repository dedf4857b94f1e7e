"""What a person knows better than a weight file: `--set name=value`, for every command that reads one."""

import json
from collections.abc import Sequence
from typing import Any

from i2i.errors import InputError


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Arguments for `i2i.load` and `i2i.checkpoints.open_checkpoint`, from strings "name=value".

    A value that is JSON (4, 0.5, true, null, [0, 255]) means that; any other is a string.

    Raises:
        InputError: an assignment has no "=" or no name, or a name comes twice.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"--set {assignment}: expected name=value, such as --set dropout=false")
        if name in overrides:
            raise InputError(f"--set {name} is given twice; give it once")
        try:
            overrides[name] = json.loads(text)
        except ValueError:
            overrides[name] = text
    return overrides
