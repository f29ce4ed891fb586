"""Collect: new result lines of the site become rows, and what got lost is sent again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from l2l_tasks.agent import results
from l2l_tasks.agent.results import Rejected, ResultLine, WorkerLine
from l2l_tasks.context import Context
from l2l_tasks.errors import SiteNotOpen
from l2l_tasks.steps import stored
from l2l_tasks.steps.open_site import RESULT_DEPTH, RESULT_LINE_BYTES
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.steps.submit import bundle, raise_refusal, submit, timeout
from l2l_tasks.store import evaluations, events, generations, offsets, workers, workload
from l2l_tasks.store.evaluations import IngestedResult
from l2l_tasks.store.workers import WorkerRow

MAX_BYTES = 16 * 1024 * 1024
LIMITS = {"line_bytes": RESULT_LINE_BYTES, "depth": RESULT_DEPTH}


def collect(ctx: Context, campaign_id: str, generation: int) -> bool:
    """Fetch and store what the workers wrote since the last call.

    Returns:
        Whether the generation can be told now. If not, whatever was missing has been sent again.

    Raises:
        SiteTransientError: the site did not answer; collect again.
        SitePermanentError: the scheduler refuses workers while work is waiting.
    """
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
        row = generations.get(connection, campaign_id, generation)
        known = offsets.get(connection, campaign_id)
    if campaign.row.status != "running" or row is None or row.told_at is not None:
        return True
    more = True
    try:
        while more:
            reply = ctx.site(campaign.row.site).collect(campaign_id, known, max_bytes=MAX_BYTES)
            known = _store(ctx, campaign, known, reply)
            more = reply["more"]
        if _complete(ctx, campaign, generation, with_tests=row.asked == 0):
            return True
        _send_again(ctx, campaign)
    except SiteNotOpen:  # purged: submit opens it again and puts what is still missing
        submit(ctx, campaign_id, generation)
    return False


def _store(
    ctx: Context, campaign: StoredCampaign, known: Mapping[str, int], reply: Mapping[str, Any]
) -> dict[str, int]:
    """Store one reply and the new offsets in one transaction; the offsets."""
    campaign_id, files, archived = campaign.row.id, reply["files"], reply["archived"]
    ingested: list[IngestedResult] = []
    worker_rows: dict[str, WorkerRow] = {}
    rejected: dict[str, list[str]] = {}
    for file in files:
        for text in file["data"].split("\n"):
            if not text:
                continue
            try:
                line = _parse(text, len(campaign.directions))
            except Rejected as error:
                rejected.setdefault(file["file"], []).append(str(error))
                continue
            if isinstance(line, ResultLine):
                ingested.append(_ingested(line))
            elif isinstance(line, WorkerLine):
                worker_rows[line.worker] = _worker(line, worker_rows.get(line.worker))
    now = {**known, **{file["file"]: file["next"] for file in files}}
    now = {name: offset for name, offset in now.items() if name not in archived}
    with ctx.engine.begin() as connection:
        stored.lock(connection, campaign_id)
        if offsets.get(connection, campaign_id) != dict(known):
            return offsets.get(connection, campaign_id)  # another collect was quicker
        offsets.forget(connection, campaign_id, archived)
        if not files:
            return now
        report = evaluations.ingest(connection, campaign_id, ingested)
        workers.upsert(connection, campaign_id, list(worker_rows.values()))
        offsets.set(connection, campaign_id, now)
        for name, reasons in rejected.items():
            evaluations.reject(connection, campaign_id, name, reasons[0], len(reasons))
        if report.unknown_key or report.wrong_nonce:
            detail = {"unknown_key": report.unknown_key, "wrong_nonce": report.wrong_nonce}
            events.add(connection, campaign_id, "results_refused", detail, "collect")
    return now


def _parse(text: str, objectives: int) -> results.Line:
    """One line of a site; Rejected with the reason when it is not to be believed."""
    line = results.parse_line(text.encode(), LIMITS)
    if isinstance(line, ResultLine) and line.fitness is not None and len(line.fitness) != objectives:
        raise Rejected(f"{len(line.fitness)} fitness values, the campaign has {objectives} objectives")
    return line


def _ingested(line: ResultLine) -> IngestedResult:
    individual, task_index, repeat = (int(part) for part in line.key.split("."))
    error = line.error or {}
    return IngestedResult(
        individual=individual,
        task_index=task_index,
        repeat=repeat,
        nonce=line.nonce,
        attempt=line.attempt,
        status=line.status,
        final=line.final,
        fitness=line.fitness,
        metrics=line.metrics,
        curve=line.curve,
        started=line.started,
        ended=line.ended,
        cpu=line.cpu,
        host=line.host,
        worker=line.worker,
        error_kind=error.get("kind"),
        error_message=error.get("message"),
        error_tail=error.get("tail"),
    )


def _worker(line: WorkerLine, before: WorkerRow | None) -> WorkerRow:
    """What a worker says of itself when it begins and when it ends in good order."""
    began = line.event == "start"
    return WorkerRow(
        worker=line.worker,
        job=line.job,
        index=line.index,
        restart=line.restart,
        state="RUNNING" if began else "COMPLETED",
        reason=line.reason,
        host=line.host,
        cpus=line.cpus,
        started=line.time if began else (before.started if before else None),
        ended=None if began else line.time,
    )


def _complete(ctx: Context, campaign: StoredCampaign, generation: int, *, with_tests: bool) -> bool:
    """Whether as many individuals (and all tests) are final as the generation tells; then it is collected."""
    with ctx.engine.begin() as connection:
        counts = workload.counts(connection, campaign.row.id)
        complete = counts.complete >= min(campaign.batch, counts.untold)
        complete = complete and not (with_tests and counts.tests)
        if complete:
            generations.mark_collected(connection, campaign.row.id, generation)
        return complete


def _send_again(ctx: Context, campaign: StoredCampaign) -> None:
    """Put what the site no longer has although it is not final (a lost file, a refused line)."""
    client = ctx.site(campaign.row.site)
    request = [{"campaign": campaign.row.id, "workers": campaign.workers, "target": 0}]
    status = client.poll(request, wait=0)[campaign.row.id]
    if status["todo"] or status["running"]:
        raise_refusal(status)
        return
    with ctx.engine.begin() as connection:
        outstanding = evaluations.outstanding(connection, campaign.row.id)
        median = evaluations.duration_median(connection, campaign.row.id)
        if outstanding:
            detail = {"evaluations": [e.key for e in outstanding[:20]]}
            events.add(connection, campaign.row.id, "sent_again", detail, "collect")
    if outstanding:
        # A new name: the site keeps the old one as done and would skip it.
        name = f"g{outstanding[0].generation:05d}-00000-r{secrets.token_hex(4)}"
        again = bundle(name, outstanding, timeout(campaign, median))
        client.submit(campaign.row.id, [again], workers=campaign.workers, forget_before=0)
