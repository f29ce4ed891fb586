"""Errors of the agent, in the words of its replies."""

from __future__ import annotations


class AgentError(Exception):
    """A command cannot be done.

    `kind`: "user", "transient" (ask again), "permanent", "not_open" (the campaign has no folder here) or
    "internal".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
