"""The frame round a reply, so that what a login prints before and after it does no harm.

    <<<L2L {token}
    {one line of JSON}
    {token} L2L>>>

The token is random for every command: nothing that a site says unasked can look like its reply.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from l2l_tasks.errors import SiteUnknown


def new_token() -> str:
    """A token for one command: 16 hex characters."""
    return secrets.token_hex(8)


def extract(stdout: bytes, token: str) -> dict[str, Any] | None:
    """The reply between the marks of `token`; None when the frame is missing or not closed.

    Raises:
        SiteUnknown: the frame is whole but holds no JSON object.
    """
    opening, closing = f"<<<L2L {token}\n".encode(), f"\n{token} L2L>>>".encode()
    start = stdout.find(opening)
    end = stdout.find(closing, start + len(opening)) if start >= 0 else -1
    if end < 0:
        return None
    body = stdout[start + len(opening) : end]
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SiteUnknown(f"the reply is not JSON ({error}); ask again") from error
    if not isinstance(reply, dict):
        raise SiteUnknown("the reply is not a JSON object; ask again")
    return reply
