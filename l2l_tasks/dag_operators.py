"""The tasks of a campaign's DAG: thin shells round the steps. They hand each other nothing.

Each reads which (campaign, generation) it is about from its DAG run and everything else from PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException
from airflow.triggers.base import StartTriggerArgs

from l2l_tasks import dag_campaign, dag_names, dag_params
from l2l_tasks.dag_campaign import Place
from l2l_tasks.errors import TrackingError, UserError
from l2l_tasks.mlflow_pages import run_page
from l2l_tasks.spec_file import load

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from l2l_tasks.context import Context as Connections

T = TypeVar("T")


class MlflowLink(BaseOperatorLink):
    """The campaign's run in MLflow."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The run's page; empty before the campaign has one. Airflow asks in the worker, after the task."""
        return str(getattr(operator, "mlflow_url", ""))


class NextGenerationLink(BaseOperatorLink):
    """The DAG run of the next generation."""

    name = "Next generation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page of the triggered DAG run; empty at the end of a campaign."""
        run_id = getattr(operator, "next_run_id", "")
        if not run_id:
            return ""
        from airflow.utils.helpers import build_airflow_dagrun_url

        return str(build_airflow_dagrun_url(dag_id=ti_key.dag_id, run_id=run_id))


class _Step:
    """What the tasks have in common: their place, their connections, the meaning of errors."""

    mlflow_url: str
    log: Any

    def perform(self, context: Context, step: Callable[[Connections, Place], T]) -> T:
        """Run a step for this DAG run's campaign and generation."""
        with dag_campaign.connections() as ctx:
            place = self.guarded(ctx, context, None, lambda: self._place(ctx, context))
            self.log.info("campaign %s, generation %s", place.campaign, place.generation)
            result = self.guarded(ctx, context, place.campaign, lambda: step(ctx, place))
            self.mlflow_url = run_page(dag_campaign.campaign_row(ctx, place.campaign).mlflow_run_id)
            return result

    def guarded(self, ctx: Connections, context: Context, campaign: str | None, step: Callable[[], T]) -> T:
        """See `dag_campaign.guarded`."""
        ti = context["ti"]
        return dag_campaign.guarded(ctx, campaign, ti.try_number, ti.max_tries or 0, step)

    def _place(self, ctx: Connections, context: Context) -> Place:
        run = context["dag_run"]
        place = dag_campaign.find(ctx, run.dag_id, run.run_id, run.conf)
        if place is None:
            raise UserError(f"DAG run {run.run_id} has not begun a campaign yet: clear its `submit` task")
        return place


class SubmitOperator(_Step, BaseOperator):
    """Begins the campaign (first generation), asks the optimizer, brings the evaluations to the site.

    Args:
        campaign_file: the campaign's YAML, read when a campaign begins and never again: a campaign that
            runs keeps its specification whatever becomes of the file.
    """

    operator_extra_links = (MlflowLink(),)

    def __init__(self, *, campaign_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign_file = campaign_file
        self.mlflow_url = ""

    def execute(self, context: Context) -> str:
        from l2l_tasks import steps
        from l2l_tasks.triggers import describe

        def submit(ctx: Connections, place: Place) -> str:
            status = steps.submit(ctx, place.campaign, place.generation)
            site = dag_campaign.campaign_row(ctx, place.campaign).site
            if status is None:
                self.log.info("generation %s was told already: nothing to submit", place.generation)
            else:
                self.log.info("site %s: %s new workers; %s", site, status["submitted"], describe(status))
            return place.campaign

        return self.perform(context, submit)

    def _place(self, ctx: Connections, context: Context) -> Place:
        from l2l_tasks import steps

        run = context["dag_run"]
        place = dag_campaign.find(ctx, run.dag_id, run.run_id, run.conf)
        if place is not None:
            return place
        path = Path(self.campaign_file)
        spec = dag_params.apply(load(path), context["params"])
        who = f"airflow:{getattr(run, 'triggering_user_name', None) or run.run_type}"
        campaign = steps.begin(ctx, dag_names.origin(run.dag_id, run.run_id), spec, path.parent, who)
        self.log.info("campaign %s begins: %s with %s at site %s", campaign, spec.optimizee.reference,
                      spec.optimizer.name, spec.site)  # fmt: skip
        return Place(campaign, 0)


class WaitOperator(BaseOperator):
    """Waits until the site has finished. Starts in the triggerer and is ended there: no worker is used.

    Mark it as failed to cancel the campaign's jobs; a restart of Airflow cancels nothing.
    """

    start_from_trigger = True
    template_fields: Sequence[str] = ("run_id", "campaign", "generation")
    ui_color = "#e6f1f2"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_id = "{{ dag_run.run_id }}"
        self.campaign = "{{ (dag_run.conf or {}).get('campaign') or '' }}"
        self.generation = "{{ (dag_run.conf or {}).get('generation') or 0 }}"
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="l2l_tasks.triggers.WaitTrigger",
            trigger_kwargs={
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "campaign": self.campaign,
                "generation": self.generation,
            },
            next_method="execute",
        )


class CollectSensor(_Step, BaseSensorOperator):
    """Fetches the results. Looks again, without holding a worker, while something had to be sent again."""

    operator_extra_links = (MlflowLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            mode="reschedule",
            poke_interval=5,
            exponential_backoff=True,
            max_wait=60,
            # How long evaluations may take is the campaign's business, not this task's.
            timeout=timedelta(days=3650),
            **kwargs,
        )
        self.mlflow_url = ""

    def poke(self, context: Context) -> bool:
        from l2l_tasks import steps

        def collect(ctx: Connections, place: Place) -> bool:
            complete = steps.collect(ctx, place.campaign, place.generation)
            row = dag_campaign.campaign_row(ctx, place.campaign)
            self.log.info(
                "results of the campaign so far: %s ok, %s failed, %s infeasible of %s; generation %s is %s",
                row.evaluations_ok, row.evaluations_failed, row.evaluations_infeasible, row.evaluations_total,
                place.generation, "complete" if complete else "not complete: what got lost was sent again",
            )  # fmt: skip
            return complete

        return self.perform(context, collect)


class UpdateOperator(_Step, BaseOperator):
    """Tells the optimizer and decides whether the campaign goes on; both are stored in PostgreSQL."""

    operator_extra_links = (MlflowLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_url = ""

    def execute(self, context: Context) -> None:
        from l2l_tasks import steps
        from l2l_tasks.store import generations

        def update(ctx: Connections, place: Place) -> None:
            decision = steps.update(ctx, place.campaign, place.generation)
            with ctx.engine.begin() as connection:
                row = generations.get(connection, place.campaign, place.generation)
            if row is not None and row.summary is not None:
                told = row.summary["status"]
                self.log.info(
                    "told %s ok, %s failed, %s infeasible; best so far: %s",
                    told["ok"], told["failed"], told["infeasible"], _best(row.summary),
                )  # fmt: skip
            self.log.info(
                "goes on with generation %s" if decision.proceed else "does not go on: %s",
                decision.next_generation if decision.proceed else decision.reason,
            )

        self.perform(context, update)


def _best(summary: Mapping[str, Any]) -> str:
    """The best individual so far of a generation's summary, for people."""
    best = summary["progress"]["best"]
    if best is None:
        return "none"
    named = zip(summary["objectives"], best["fitness"], strict=True)
    return f"{', '.join(f'{name} {value:.6g}' for name, value in named)} (individual {best['index']})"


class NextGenerationOperator(_Step, BaseOperator):
    """Triggers the DAG run of the next generation, or gives back the site's workers at the end.

    The run id is a function of campaign and generation: a retry or a clear cannot start a second chain.

    A paused campaign gets no next run, so that no task fails or waits for an unknown time, and nothing is
    lost: where the campaign is stands in PostgreSQL, and `l2l resume` triggers the run that comes next (the
    same id again). Its idle workers end by themselves after `linger`. Pausing the DAG in Airflow also works:
    the run is then queued until the DAG is unpaused.
    """

    operator_extra_links = (MlflowLink(), NextGenerationLink())
    ui_color = "#ffefeb"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_url = ""
        self.next_run_id = ""

    def execute(self, context: Context) -> None:
        next_place = self.perform(context, self._next)
        if next_place is None:
            return
        self.next_run_id = dag_names.run_id(next_place.campaign, next_place.generation)
        self.log.info("generation %s is the DAG run %s", next_place.generation, self.next_run_id)
        # What TriggerDagRunOperator raises; its module would double the time to load the DAG file, in
        # every task.
        raise DagRunTriggerException(
            trigger_dag_id=context["dag_run"].dag_id,
            dag_run_id=self.next_run_id,
            conf={"campaign": next_place.campaign, "generation": next_place.generation},
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )

    def _next(self, ctx: Connections, place: Place) -> Place | None:
        from l2l_tasks import steps

        decision = steps.decision(ctx, place.campaign, place.generation)
        status = dag_campaign.campaign_row(ctx, place.campaign).status
        if decision.proceed and status == "running":
            return Place(place.campaign, decision.next_generation)
        if status in ("running", "paused"):
            message = (
                f"{decision.reason or 'campaign is ' + status}. It goes on with: l2l resume {place.campaign}"
            )
            # A run that did not do its work must not look as if it had.
            untold = decision.next_generation == place.generation
            raise AirflowFailException(message) if untold else AirflowSkipException(message)
        self.log.info(
            "the campaign is %s: %s. Giving back what it holds at its site", status, decision.reason
        )
        steps.release(ctx, place.campaign)
        return None


class LogOperator(_Step, BaseOperator):
    """Sends to MLflow what waits in the outbox, off the critical path.

    Is skipped when MLflow does not answer: the next generation's log sends it too. Nobody comes after the
    last generation, so there this task tries again for a day.
    """

    operator_extra_links = (MlflowLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_url = ""

    def execute(self, context: Context) -> None:
        from l2l_tasks import steps

        def log(ctx: Connections, place: Place) -> None:
            final = dag_campaign.campaign_row(ctx, place.campaign).status in ("finished", "stopped")
            try:
                left = steps.log(ctx, place.campaign, final)
            except TrackingError as error:
                if final:
                    raise
                raise AirflowSkipException(
                    f"not logged yet, the next generation's log does it: {error}"
                ) from error
            self.log.info("generations that MLflow does not have yet: %s", left)

        self.perform(context, log)
