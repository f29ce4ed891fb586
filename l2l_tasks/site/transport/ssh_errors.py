"""What a failed login means: read from the stderr of the OpenSSH client, which exits with 255 for all.

Texts as measured with OpenSSH 9.2; tests/site provokes each of them at a real sshd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LoginFailure:
    """Why a login failed.

    Attributes:
        permanent: whether a person has to act before a login can work.
        reason: one sentence with what to do, and what ssh said.
    """

    permanent: bool
    reason: str


CONFIGURATION = (
    r"Bad configuration option|Bad owner or permissions on|Can't open user config file|"
    r"terminating, \d+ bad configuration options|Cannot execute command-line and remote command"
)
# First match wins. A jump host's refusal is followed by the outer ssh's "Connection closed", so what is
# permanent comes first.
PATTERNS: tuple[tuple[str, bool, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|No \S+ host key is known",
        True,
        "the host key is not the pinned one. Do not accept it unseen: compare it with what the site "
        "publishes, then mend host_key (or known_hosts) of the connection",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        True,
        "the private key is readable by others: chmod 600",
    ),
    (
        r"no such identity",
        True,
        "there is no key file at that path: mend key_file of the connection",
    ),
    (
        r"Too many authentication failures",
        True,
        "too many keys were offered: name one in key_file",
    ),
    (
        r"Permission denied \([^)]*keyboard-interactive|Permission denied \([^)]*password",
        True,
        "the site did not accept the key, or asks for more than a key (second factor): check key, account, "
        "agent (passphrase) and the from= clause, or open the connection by hand (docs/sites.md)",
    ),
    (
        r"Permission denied",
        True,
        "the site did not accept the key: check key_file, account, agent (passphrase), whether the public "
        "key is installed and whether its from= clause allows this machine",
    ),
    (CONFIGURATION, True, "the ssh configuration is wrong"),
    (
        r"no matching (host key type|key exchange method|cipher|MAC) found",
        True,
        "client and site share no algorithm: update OpenSSH, or name the algorithm in an ssh_config",
    ),
    (r"Connection refused", False, "the connection was refused"),
    (r"banner exchange", False, "the site accepted the connection and then said nothing"),
    (r"timed out|Operation timed out", False, "the site did not answer in time"),
    (r"Could not resolve hostname", False, "the host name could not be resolved"),
    (r"No route to host|Network is unreachable", False, "the network does not reach the site"),
    (r"Connection (reset|closed)|Connection to \S+ closed|kex_", False, "the site closed the connection"),
)


def classify(stderr: bytes) -> LoginFailure:
    """The meaning of a failed login's stderr; what is not known counts as passing."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    said = [line for line in lines if not line.startswith(("debug", "OpenSSH_"))]
    text, tail = "\n".join(said), _tail(said)
    for pattern, permanent, meaning in PATTERNS:
        if re.search(pattern, text):
            return LoginFailure(permanent, f"{meaning} [{tail}]")
    return LoginFailure(False, f"the login failed [{tail or 'ssh said nothing'}]")


def misconfigured(stderr: bytes) -> bool:
    """Whether the client did not even start because its configuration is wrong."""
    return re.search(CONFIGURATION, stderr.decode(errors="replace")) is not None


def _tail(lines: list[str]) -> str:
    """The last words of ssh on one line; the frame of `@` round its warnings is left out."""
    words = [line for line in lines if line and not set(line) <= set("@ ")]
    return " / ".join(words[-3:])[-400:]
