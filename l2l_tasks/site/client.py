"""The controller's view of a site: every method is one command of the agent there.

Each method may be repeated at any time with the same effect (the agent's commands are idempotent), which
is what a caller does after SiteUnknown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from l2l_tasks import connections
from l2l_tasks.agent import build
from l2l_tasks.agent.probing import PYTHON_SECONDS
from l2l_tasks.errors import (
    SiteError,
    SiteNotOpen,
    SitePermanentError,
    SiteTransientError,
    SiteUnknown,
    UserError,
)
from l2l_tasks.site import archive, framing, profile
from l2l_tasks.site.profile import SiteProfile
from l2l_tasks.site.transport.base import (
    FRAME_FUNCTION,
    Completed,
    LinkStatus,
    Transport,
    header,
    stderr_tail,
)
from l2l_tasks.site.transport.local import LocalTransport
from l2l_tasks.site.transport.ssh import SshTransport

# Longer than the agent may wait for a campaign's lock and for a hung scheduler.
CALL_SECONDS = 180.0
# The slowest link that a request is still sent over.
BYTES_PER_SECOND = 250_000
# Smaller code is sent along without asking first whether the site has it.
SEND_UNASKED_BYTES = 256 * 1024
COLLECT_BYTES = 16 * 1024 * 1024

# See transport/base.py for why this is one fixed line. The Python version is looked at only when the agent
# failed: in the good case nothing but the agent starts.
CALL = (
    "IFS= read -r t; IFS= read -r q; IFS= read -r f; "
    + FRAME_FUNCTION
    + 'case "$q" in "~/"*) q="$HOME/${q#??}";; esac; case "$f" in "~/"*) f="$HOME/${f#??}";; esac; '
    'command -v "$q" >/dev/null 2>&1 || end no_python; [ -f "$f" ] || end no_agent; '
    '"$q" "$f" call; r=$?; [ "$r" -eq 0 ] && exit 0; '
    '"$q" -c "import sys; sys.exit(sys.version_info < (3, 8))" || end old_python; end crashed "$r"'
)

Reply = dict[str, Any]


class SiteClient:
    """One site, through its transport.

    Attributes:
        profile: the site's profile.
        transport: how commands get there.
        commands: remote commands so far (uploads included).

    Every method may raise:
        SiteUnknown: no answer came; the command may have had its effect. Repeat it.
        SiteTransientError: passing; nothing was done, or doing it again is right. Repeat it later.
        SitePermanentError: a person has to act.
        SiteNotOpen: the campaign's folder is not there; open it again.
        UserError: the campaign or the optimizee is at fault.
    """

    def __init__(self, site: SiteProfile, transport: Transport) -> None:
        self.profile = site
        self.transport = transport
        self.commands = 0

    @cached_property
    def _agent(self) -> bytes:
        return build.build()

    @cached_property
    def agent_path(self) -> str:
        """Where the agent of this version is at the site."""
        return f"{self.profile.work.rstrip('/')}/agent/{build.name(self._agent)}"

    def call(self, command: str, request: Mapping[str, Any], timeout: float = CALL_SECONDS) -> Reply:
        """Run one command of the agent; the agent itself is brought there when it is missing.

        Args:
            timeout: seconds, the transfer of the request not included.
        """
        reply = self._call_once(command, request, timeout)
        if reply.get("status") == "no_agent":
            self.commands += 1
            self.transport.put(self._agent, self.agent_path)
            reply = self._call_once(command, request, timeout)
        if reply.get("ok") is True:
            return reply
        raise self._error(command, reply)

    def probe(
        self,
        scheduler: Mapping[str, Any] | None = None,
        python: str | None = None,
        environments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Reply:
        """What the site is and can: Python, disk, locks, limits of the scheduler, `problems`.

        `environments`: Pythons to try as well, as the agent's `probe` takes them.
        """
        request: Reply = {"python": python or self.profile.python, "write": True}
        request["scheduler"] = dict(scheduler or self.profile.scheduler_config({}))
        request["environments"] = dict(environments or {})
        return self.call("probe", request, CALL_SECONDS + (PYTHON_SECONDS if environments else 0.0))

    def check(self, config: Mapping[str, Any]) -> list[str]:
        """Why the site would refuse a campaign (campaign.json's content); empty when it would not."""
        reply = self.probe(config["scheduler"], config["python"])
        return [str(problem) for problem in reply.get("problems", [])]

    def stage_code(self, sha256: str, files: Mapping[str, bytes]) -> None:
        """Bring an optimizee's code (relative path -> content) to the site, unless it is there."""
        packed = archive.pack(files)
        if len(packed) > SEND_UNASKED_BYTES and self.call("stage", {"code": sha256}).get("present") is True:
            return
        request = {"code": sha256, "archive": base64.b64encode(packed).decode()}
        if self.call("stage", request).get("present") is not True:
            raise SiteUnknown(f"site {self.profile.name}: code {sha256[:12]} is not confirmed; repeat")

    def open(self, campaign: str, config: Mapping[str, Any]) -> Reply:
        """Make a campaign's folder, or renew its configuration."""
        return self.call("open", {"campaign": campaign, "config": dict(config)})

    def submit(
        self,
        campaign: str,
        bundles: Sequence[Mapping[str, Any]],
        workers: int,
        forget_before: int,
        checkpoints_from: int = 0,
    ) -> Reply:
        """Put bundles into the pool (what it has is skipped), see that workers come; the pool's status.

        Args:
            campaign: id of the campaign.
            bundles: as `Bundle.parse` takes them.
            workers: most at once.
            forget_before: what is known of bundles of earlier generations is forgotten.
            checkpoints_from: checkpoints of earlier individuals are removed.
        """
        request = {"campaign": campaign, "bundles": list(bundles), "workers": workers}
        request |= {"forget_before": forget_before, "checkpoints_from": checkpoints_from}
        return self.call("submit", request)

    def poll(self, campaigns: Sequence[Mapping[str, Any]], wait: float) -> dict[str, Reply]:
        """Reconcile any number of campaigns with one command and one scheduler query.

        Args:
            campaigns: `{"campaign": id, "workers": most at once, "target": evaluations left at which the
                wait is over}` each.
            wait: seconds that the agent may watch the pools for a target.

        Returns:
            Pool status by campaign id.
        """
        request = {"campaigns": [dict(c) for c in campaigns], "wait": wait}
        reply = self.call("poll", request, CALL_SECONDS + wait)
        found = reply.get("campaigns")
        if not isinstance(found, dict):
            raise SiteUnknown(f"site {self.profile.name}: the reply to poll names no campaigns; ask again")
        return found

    def collect(self, campaign: str, offsets: Mapping[str, int], max_bytes: int = COLLECT_BYTES) -> Reply:
        """New result lines: `{"files": [{"file", "offset", "data", "next"}...], "more": bool}`."""
        request = {"campaign": campaign, "offsets": dict(offsets), "max_bytes": max_bytes}
        return self.call("collect", request)

    def stop(self, campaign: str) -> bool:
        """Cancel a campaign's jobs and stop its workers; whether the scheduler confirmed it."""
        return self.call("stop", {"campaign": campaign}).get("cancelled") is True

    def resume(self, campaign: str) -> None:
        """Undo `stop` for future workers."""
        self.call("resume", {"campaign": campaign})

    def clean(self, campaign: str) -> None:
        """Delete a campaign's folder at the site; refused while a worker lives."""
        self.call("clean", {"campaign": campaign})

    def status(self) -> LinkStatus | None:
        """How the connection is (logins, pauses); None where there is nothing to log in to."""
        return self.transport.status()

    def reset(self) -> None:
        """A person has mended what stopped the logins: allow them again."""
        self.transport.reset()

    def close(self) -> None:
        """Give back what this object holds (a shared SSH connection stays for other processes)."""
        self.transport.close()

    def _call_once(self, command: str, request: Mapping[str, Any], timeout: float) -> Reply:
        token = framing.new_token()
        body = {**request, "token": token, "work": self.profile.work, "command": command}
        data = header(token, self.profile.agent_python, self.agent_path)
        data += json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self.commands += 1
        done = self.transport.run(["/bin/sh", "-c", CALL], data, timeout + len(data) / BYTES_PER_SECOND)
        reply = framing.extract(done.stdout, token)
        if reply is None:
            raise SiteUnknown(
                f"site {self.profile.name}: no reply to {command} ({self._why(done)}); it may have had its "
                "effect, so it is asked again"
            )
        if reply.get("status") == "crashed":
            raise self._crash(command, done)
        return reply

    @staticmethod
    def _why(done: Completed) -> str:
        return done.lost or f"exit status {done.exit_status}: {stderr_tail(done) or 'nothing on stderr'}"

    def _crash(self, command: str, done: Completed) -> SiteError:
        said = stderr_tail(done)
        where = f"site {self.profile.name}: the agent ended without a reply to {command} ({said or 'mute'})"
        if any(word in said for word in ("ImportError", "ModuleNotFoundError", "SyntaxError", "zipimport")):
            return SitePermanentError(f"{where}. Set `agent_python` of the site profile to a complete Python")
        return SiteUnknown(f"{where}; it is asked again")

    def _error(self, command: str, reply: Reply) -> Exception:
        """The exception for a reply that is not ok."""
        where = f"site {self.profile.name}: {command}"
        status = reply.get("status")
        if status in ("no_python", "old_python"):
            what = "is not there" if status == "no_python" else "is older than 3.8 or does not start"
            return SitePermanentError(
                f"{where}: the agent needs Python 3.8 or later; {self.profile.agent_python!r} {what}. Set "
                "`agent_python` of the site profile to the full path of a Python of the login node"
            )
        if status == "no_agent":
            return SiteTransientError(f"{where}: {self.agent_path} went missing right after it was put there")
        error = reply.get("error")
        kind, message = ("", "") if not isinstance(error, dict) else (error.get("kind"), error.get("message"))
        if kind == "user":
            return UserError(f"{where}: {message}")
        if kind == "transient":
            return SiteTransientError(f"{where}: {message}")
        if kind == "not_open":
            return SiteNotOpen(f"{where}: {message}")
        if kind in ("permanent", "internal"):
            return SitePermanentError(f"{where}: {message}")
        return SiteUnknown(f"{where}: a reply that is neither ok nor an error; ask again")


def open_site(name: str) -> SiteClient:
    """The client of the site `name`. Nothing is sent yet.

    Raises:
        UserError: there is no such profile, or it has mistakes.
        SitePermanentError: its connection is missing, incomplete or insecure.
    """
    site = profile.load(name)
    if site.transport == "local":
        return SiteClient(site, LocalTransport())
    info = connections.get(str(site.connection))
    return SiteClient(site, SshTransport(info, site=name, logins_per_hour=site.logins_per_hour))
