"""The contract of a transport, and what every transport does in the same way."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from l2l_tasks.errors import SitePermanentError, SiteUnknown
from l2l_tasks.site import framing
from l2l_tasks.site.transport.process import Completed

__all__ = ["MAX_OUTPUT", "PUT", "Completed", "LinkStatus", "Transport", "header", "stderr_tail"]

MAX_OUTPUT = 64 * 1024 * 1024

# The remote scripts are fixed texts: what varies comes as the first lines of stdin (`read` takes no byte
# more than its line from a pipe), so that neither `ps` nor a shell's history shows it, and so that a
# site can allow-list the commands. One line, no single quote and no `!`: it passes through any login shell.
FRAME_FUNCTION = (
    r'end() { printf "\n<<<L2L %s\n{\"status\":\"%s\",\"code\":%d}\n%s L2L>>>\n" "$t" "$1" "${2:-0}" "$t"; '
    r'[ -z "${p:-}" ] || rm -f "$p"; exit 0; }; '
)
PUT = (
    "umask 077; IFS= read -r t; IFS= read -r f; IFS= read -r s; "
    + FRAME_FUNCTION
    + 'case "$f" in "~/"*) f="$HOME/${f#??}";; esac; p="$f.tmp-$t"; mkdir -p "${f%/*}" || end folder; '
    'cat > "$p" || end write; set -- $(sha256sum < "$p"); [ "$1" = "$s" ] || end sum; '
    'mv -f "$p" "$f" || end write; end ok'
)


@dataclass(frozen=True)
class LinkStatus:
    """A connection that has to be logged in to, for `l2l status` and `l2l doctor`.

    Attributes:
        connected: whether the shared connection is up.
        logins: in the last hour, of `budget`.
        total: logins ever.
        retry_at: epoch seconds before which no login is tried; 0 when one may be.
        last_error: of the last failed login; empty after a success.
        circuit: why logins are stopped until a person acts; empty when they are not.
        login_command: what a person types to open the connection by hand (second factor).
    """

    connected: bool
    logins: int
    budget: int
    total: int
    retry_at: float
    last_error: str
    circuit: str
    login_command: str


class Transport(ABC):
    """How a command is run at a site.

    - `run` starts one command and returns when it ends. No shell interprets `argv`; what is long, secret
      or variable goes through `stdin`, never through `argv`.
    - No answer is not an answer: when no exit status came (connection lost, client killed, timeout,
      output above the cap) `exit_status` is None and `lost` says why. The command may then have run, may
      not have run, and may still run.
    - SiteTransientError: the command did certainly not start (no connection, login budget used up).
      SitePermanentError: it cannot start before a person has acted.
    - Only the local end of a command is ever killed.
    - One object may be used by several threads; any number of processes may use a site at once.
    """

    @abstractmethod
    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        """Run `argv` at the site.

        Args:
            timeout: seconds for all of it, a login included.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what this object alone holds. Repeating it is allowed."""

    def status(self) -> LinkStatus | None:
        """How the connection is; None where there is nothing to log in to. Asks nothing of the site."""
        return None

    def reset(self) -> None:  # noqa: B027 - most transports have nothing to reset
        """A person has mended what stopped the logins: allow them again, now."""

    def put(self, data: bytes, path: str, timeout: float = 120.0) -> None:
        """Write `data` to the file `path` (absolute, or below `~/`), whole or not at all.

        Missing folders are made, mode 0700; the file gets mode 0600.

        Raises:
            SiteUnknown: no answer, or less arrived than was sent: put it again.
            SitePermanentError: the site cannot write there.
        """
        token = framing.new_token()
        lines = header(token, path, hashlib.sha256(data).hexdigest())
        done = self.run(["/bin/sh", "-c", PUT], lines + data, timeout)
        reply = framing.extract(done.stdout, token)
        status = None if reply is None else reply.get("status")
        if status in ("folder", "write"):
            raise SitePermanentError(
                f"cannot write {path} at the site: {stderr_tail(done) or status}. Check the folder `work` of "
                "the site profile, its permissions and the quota there"
            )
        if status != "ok":
            raise SiteUnknown(
                f"writing {path} at the site was not confirmed "
                f"({done.lost or status or stderr_tail(done) or 'no reply'}); it is put again"
            )


def header(*lines: str) -> bytes:
    """First lines of stdin for a remote script.

    Raises:
        ValueError: a line holds a line break.
    """
    if any("\n" in line or "\0" in line for line in lines):
        raise ValueError("a line of the header holds a line break")
    return "".join(line + "\n" for line in lines).encode()


def stderr_tail(done: Completed, limit: int = 300) -> str:
    """The last lines of stderr as one line of at most `limit` characters."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-limit:]
