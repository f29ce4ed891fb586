"""The commands that the controller calls. Each may be repeated, cut short anywhere, and run twice at once."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Mapping

from . import checkpoints, files, reconciler, scheduler
from .collecting import collect
from .errors import AgentError
from .pool import BadBundle, Bundle, remove_tree
from .probing import probe
from .reconciler import Round, make_scheduler
from .site_folder import Campaign, code_folder, work_folder
from .staging import stage
from .watch import watch

Request = Mapping[str, Any]
Reply = Dict[str, Any]

_CONFIG: Dict[str, Any] = {
    "campaign": str,
    "job_name": str,
    "entry": str,
    "options": dict,
    "code": str,
    "objectives": int,
    "attempts": int,
    "slots": int,
    "linger": (int, float),
    "python": str,
    "env": dict,
    "limits": dict,
    "scheduler": dict,
}


def run(request: Request) -> Reply:
    """Run one command. AgentError says what went wrong."""
    command = COMMANDS.get(str(request.get("command")))
    if command is None:
        known = ", ".join(sorted(COMMANDS))
        raise AgentError("internal", "unknown command %.80r (known: %s)" % (request.get("command"), known))
    try:
        return command(request)
    except scheduler.SchedulerUnavailable as error:
        raise AgentError("transient", "the scheduler does not answer: %s" % error) from error
    except scheduler.SchedulerError as error:
        raise AgentError("user", "scheduler options: %s" % error) from error


def _probe(request: Request) -> Reply:
    return probe(work_folder(request), request)


def _stage(request: Request) -> Reply:
    folder = code_folder(work_folder(request), request.get("code"))
    folder.parent.mkdir(exist_ok=True)
    return {"present": stage(folder, request.get("archive"))}


def _open(request: Request) -> Reply:
    campaign = _campaign(request)
    config = _checked_config(campaign, request.get("config"))
    script = make_scheduler(campaign, config).job_script(config, campaign.folder)
    for folder in (campaign.results / "archive", campaign.folder / "logs", campaign.folder / "scratch"):
        folder.mkdir(parents=True, exist_ok=True)
    campaign.pool.create()
    with campaign.lock():
        files.write_atomic(campaign.folder / "job.sh", script.encode())
        os.chmod(str(campaign.folder / "job.sh"), 0o755)
        files.write_atomic(campaign.folder / "campaign.json", files.to_json(config))
    return {"folder": str(campaign.folder)}


def _checked_config(campaign: Campaign, config: Any) -> Dict[str, Any]:
    """The content of campaign.json, with paths that need no shell. AgentError when it is not complete."""
    if not isinstance(config, dict):
        raise AgentError("internal", "open: no config")
    for name, kind in _CONFIG.items():
        if not isinstance(config.get(name), kind) or isinstance(config[name], bool):
            raise AgentError("internal", "open: config: wrong %s: %.80r" % (name, config.get(name)))
    low = [name for name in ("objectives", "attempts", "slots") if config[name] < 1]
    if low or config["linger"] < 0 or config["campaign"] != campaign.name:
        raise AgentError("internal", "open: config: wrong %s" % ", ".join(low or ["linger or campaign"]))
    if any(not isinstance(config["limits"].get(name), int) for name in ("line_bytes", "depth")):
        raise AgentError("internal", "open: config: wrong limits %.80r" % (config["limits"],))
    code_folder(campaign.work, config["code"])
    return {**config, "python": os.path.expanduser(config["python"])}


def _submit(request: Request) -> Reply:
    campaign = _existing(request)
    if not code_folder(campaign.work, campaign.config()["code"]).is_dir():
        raise AgentError("not_open", "the code of campaign %s was removed: open it again" % campaign.name)
    try:
        bundles = [Bundle.parse(content) for content in request.get("bundles") or []]
    except (BadBundle, AttributeError) as error:
        raise AgentError("internal", "submit: %s" % error) from error
    one = Round(campaign, _whole(request, "workers"), asked_to=True)
    with campaign.lock():
        campaign.pool.put(bundles)
        campaign.pool.forget(_whole(request, "forget_before"))
        checkpoints.forget(campaign.folder, _whole({"checkpoints_from": 0, **request}, "checkpoints_from"))
        reconciler.run_locked([one])
    return one.status()


def _poll(request: Request) -> Reply:
    work = work_folder(request)
    asked: List[Request] = request.get("campaigns") or []
    rounds = [Round(Campaign(work, one.get("campaign")), _whole(one, "workers")) for one in asked]
    targets = {str(one.get("campaign")): _whole(one, "target") for one in asked}
    there = [one for one in rounds if one.campaign.exists()]
    reconciler.run(there)
    wait = float(request.get("wait") or 0.0)
    if wait > 0 and len(there) == len(rounds):
        watch(there, targets, wait)
    statuses = {one.campaign.name: one.status() for one in there}
    for one in rounds:
        if one.campaign.name not in statuses:
            statuses[one.campaign.name] = {**one.status(), "known": False, "missing": True}
    return {"campaigns": statuses}


def _collect(request: Request) -> Reply:
    offsets = request.get("offsets") or {}
    campaign = _existing(request)
    with campaign.lock():
        return collect(campaign, offsets, max(1, _whole(request, "max_bytes")))


def _stop(request: Request) -> Reply:
    campaign = _existing(request)
    with campaign.lock():
        files.write_atomic(campaign.stop_file, b"")
        config = campaign.config()
        return {"cancelled": make_scheduler(campaign, config).cancel(config["job_name"])}


def _resume(request: Request) -> Reply:
    campaign = _existing(request)
    with campaign.lock():
        if campaign.stop_file.exists():
            campaign.stop_file.unlink()
    return {}


def _clean(request: Request) -> Reply:
    """The folder is renamed first, so that one that is half deleted is never taken for a campaign."""
    campaign = _campaign(request)
    trash = campaign.folder.with_name(".trash-%s" % campaign.name)
    if campaign.exists():
        with campaign.lock():
            config = campaign.config()
            answer = make_scheduler(campaign, config).workers([config["job_name"]])
            if not answer.known:
                raise AgentError("transient", "the scheduler does not answer: %s" % answer.message)
            if any(state.live for state in answer.workers.get(config["job_name"], [])):
                raise AgentError("user", "campaign %s still has workers: stop it first" % campaign.name)
            remove_tree(trash)
            os.rename(str(campaign.folder), str(trash))
    remove_tree(trash)
    return {}


def _campaign(request: Request) -> Campaign:
    return Campaign(work_folder(request), request.get("campaign"))


def _existing(request: Request) -> Campaign:
    campaign = _campaign(request)
    campaign.config()
    return campaign


def _whole(request: Request, name: str) -> int:
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise AgentError("internal", "wrong %s %.80r: must be a whole number" % (name, value))
    return value


COMMANDS: Dict[str, Callable[[Request], Reply]] = {
    "probe": _probe,
    "stage": _stage,
    "open": _open,
    "submit": _submit,
    "poll": _poll,
    "collect": _collect,
    "stop": _stop,
    "resume": _resume,
    "clean": _clean,
}
