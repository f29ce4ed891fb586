"""Replies between login noise: found whole or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from l2l_tasks.errors import SiteUnknown
from l2l_tasks.site import framing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
REPLY = st.dictionaries(st.text(), JSON, max_size=4)
TOKEN = "0123456789abcdef"


def frame(reply: object, token: str = TOKEN) -> bytes:
    return f"\n<<<L2L {token}\n{json.dumps(reply)}\n{token} L2L>>>\n".encode()


@given(REPLY, st.binary(max_size=200), st.binary(max_size=200))
def test_noise_before_and_after_does_no_harm(reply: dict[str, object], before: bytes, after: bytes) -> None:
    assume(TOKEN.encode() not in before)
    assert framing.extract(before + frame(reply) + after, TOKEN) == reply


@given(REPLY, st.data())
def test_a_cut_reply_is_no_reply(reply: dict[str, object], data: st.DataObject) -> None:
    """Wherever the connection broke, half a reply must not be taken for one."""
    whole = frame(reply)
    cut = data.draw(st.integers(0, len(whole) - 2))  # the last line break is not needed
    assert framing.extract(whole[:cut], TOKEN) is None


@given(st.binary(max_size=300))
def test_arbitrary_output_is_no_reply(output: bytes) -> None:
    assert framing.extract(output, TOKEN) is None


def test_the_reply_to_another_command_is_no_reply() -> None:
    assert framing.extract(frame({"ok": True}, "f" * 16), TOKEN) is None


@pytest.mark.parametrize("body", ["", "{", "[1]", "null", '{"a":1}{', "[" * 100_000])
def test_a_frame_without_a_json_object_is_unknown(body: str) -> None:
    with pytest.raises(SiteUnknown, match="JSON"):
        framing.extract(f"<<<L2L {TOKEN}\n{body}\n{TOKEN} L2L>>>\n".encode(), TOKEN)


def test_tokens_do_not_repeat() -> None:
    assert len({framing.new_token() for _ in range(100)}) == 100
