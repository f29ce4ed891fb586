"""The folder of the site: where agents, code and campaigns are, and how a campaign's folder looks.

work/  agent/<sha16>.pyz   code/<sha256>/   campaigns/<campaign id>/
    campaign.json  job.sh  lock  reconcile.json  STOP (while stopped)
    pool/{todo,running/<worker>,done,bad}/<bundle>  results/<worker>.ndjson  results/archive/  logs/  scratch/
    checkpoints/<key of an evaluation>/  artifacts/<key of an evaluation>/
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, Iterator, Mapping

from . import files
from .errors import AgentError
from .pool import Pool
from .reconcile import Memory

_CAMPAIGN = re.compile(r"[a-z0-9][a-z0-9-]{0,100}-[0-9a-f]{8}")
_SHA = re.compile(r"[0-9a-f]{64}")


def work_folder(request: Mapping[str, Any]) -> Path:
    """The site's work folder (created if need be). AgentError when it cannot be used."""
    named = request.get("work")
    if not isinstance(named, str) or not named:
        raise AgentError("internal", "the request names no work folder")
    work = Path(os.path.expandvars(os.path.expanduser(named)))
    if not work.is_absolute():
        raise AgentError(
            "permanent", "the work folder %s is not an absolute path: mend the site profile" % work
        )
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError("permanent", "the work folder cannot be made: %s" % error) from error
    return work


def code_folder(work: Path, sha256: object) -> Path:
    if not isinstance(sha256, str) or not _SHA.fullmatch(sha256):
        raise AgentError("internal", "wrong code fingerprint %.80r" % (sha256,))
    return work / "code" / sha256


class Campaign:
    """One campaign's folder."""

    def __init__(self, work: Path, name: object) -> None:
        if not isinstance(name, str) or not _CAMPAIGN.fullmatch(name):
            raise AgentError("internal", "wrong campaign id %.80r" % (name,))
        self.work, self.name = work, name
        self.folder = work / "campaigns" / name
        self.pool = Pool(self.folder)
        self.results = self.folder / "results"
        self.stop_file = self.folder / "STOP"

    def exists(self) -> bool:
        return (self.folder / "campaign.json").exists()

    def config(self) -> Mapping[str, Any]:
        """campaign.json. AgentError when the campaign is not open here."""
        try:
            return files.read_json(self.folder / "campaign.json")
        except FileNotFoundError:
            raise AgentError(
                "not_open", "campaign %s is not open at this site: open it again" % self.name
            ) from None
        except ValueError as error:
            raise AgentError(
                "permanent", "campaign %s: campaign.json is damaged: %s" % (self.name, error)
            ) from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other commands off this campaign. AgentError when that is not possible."""
        held = files.locked(self.folder / "lock")
        try:
            held.__enter__()
        except files.Busy as error:
            raise AgentError("transient", str(error)) from error
        except files.LocksUnavailable as error:
            raise AgentError("permanent", "%s; use another file system as work folder" % error) from error
        except FileNotFoundError:
            raise AgentError(
                "not_open", "campaign %s is not open at this site: open it again" % self.name
            ) from None
        with contextlib.ExitStack() as stack:
            stack.push(held)
            yield

    def memory(self) -> Memory:
        """What reconciliation remembers; nothing when the file is missing or damaged."""
        try:
            return Memory(**files.read_json(self.folder / "reconcile.json"))
        except (FileNotFoundError, ValueError, TypeError):
            return Memory()

    def remember(self, memory: Memory) -> None:
        files.write_atomic(self.folder / "reconcile.json", files.to_json(vars(memory)))
