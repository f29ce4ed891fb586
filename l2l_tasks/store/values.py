"""Values on their way into PostgreSQL: JSON and text that it can hold."""

from __future__ import annotations

import json

from l2l_tasks.errors import StoreError


def json_text(value: object) -> str:
    """`value` as JSON that PostgreSQL takes; StoreError for NaN, infinity or what is not JSON."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        if "\\u0000" in text or "\\ud" in text:
            text = json.dumps(_storable(value), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"cannot be stored as JSON ({error}): {str(value)[:200]}") from None
    return text


def clean(text: str) -> str:
    """`text` with replacement signs for what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _storable(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key) if isinstance(key, str) else key: _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
