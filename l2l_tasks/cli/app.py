"""The commands of `l2l`. Each imports what it needs when it runs, so that help and mistakes come at once."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from l2l_tasks.context import Context
    from l2l_tasks.report.gather import Study

app = typer.Typer(
    name="l2l",
    help="Learning to learn on supercomputers: long optimization campaigns.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
database = typer.Typer(help="The database.", no_args_is_help=True)
app.add_typer(database, name="db")

CampaignFile = Annotated[Path, typer.Argument(help="a campaign file (YAML)", metavar="FILE")]
CampaignId = Annotated[str, typer.Argument(help="id of a campaign, as `l2l status` shows it")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="change a field for this run, e.g. --set budget.generations=3", metavar="KEY=VALUE"
    ),
]
Small = Annotated[bool, typer.Option("--small", help="the small form: what its file says below `small`")]


def _in_a_folder(path: Path | None) -> Path | None:
    """Told before hours of work, not after them."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.absolute().parent}")
    return path


Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="write an HTML page with figures", metavar="FILE", dir_okay=False,
        callback=_in_a_folder,
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="campaign files", metavar="FILE...")]) -> None:
    """Check campaign files: every mistake with its line. Starts nothing."""
    from l2l_tasks import validation
    from l2l_tasks.errors import SpecError

    problems: list[str] = []
    for file in files:
        try:
            ready = validation.load(file, carefully=True)
        except SpecError as error:
            problems += error.problems
            continue
        spec = ready.spec
        typer.echo(
            f"{file}: ok: {spec.optimizer.name} on {spec.optimizee.reference}, "
            f"{ready.space.dimension} dimensions, {ready.batch} individuals per generation, "
            f"{ready.in_flight} in flight, at most {ready.workers} workers at {spec.site}"
        )
    if problems:
        raise SpecError(problems)


@app.command()
def run(file: CampaignFile, small: Small = False, changes: Changes = None) -> None:
    """Run a campaign in this terminal, without Airflow. Ctrl-C pauses it; `l2l resume` goes on."""
    from l2l_tasks import runner, validation
    from l2l_tasks.cli.overrides import parse
    from l2l_tasks.cli.progress import Display
    from l2l_tasks.spec_file import load_with_source
    from l2l_tasks.spec_overrides import apply_overrides, small_form

    if small or changes:
        spec, source = load_with_source(file)
        spec = apply_overrides(small_form(spec) if small else spec, parse(changes or []))
        validation.build(spec, file.parent, source)
    else:
        spec = validation.load(file).spec
    with _context() as ctx, Display() as display:
        runner.run(ctx, spec, file.parent, display.show, who=_who())


@app.command()
def status(as_json: AsJson = False) -> None:
    """All campaigns."""
    from l2l_tasks.cli import views
    from l2l_tasks.store import campaigns

    with _context() as ctx, ctx.engine.begin() as connection:
        found = campaigns.listing(connection)
    typer.echo(views.as_json(found)) if as_json else views.print_table(found)


@app.command()
def show(campaign: CampaignId, as_json: AsJson = False) -> None:
    """One campaign: specification, progress, best individual, last events."""
    from l2l_tasks.cli import views

    with _context() as ctx, ctx.engine.begin() as connection:
        found = views.details(connection, campaign)
    typer.echo(views.as_json(found)) if as_json else views.print_details(found)


@app.command()
def stop(
    campaign: CampaignId, reason: Annotated[str, typer.Option(help="why, for the record")] = "stopped by hand"
) -> None:
    """End a campaign and cancel its jobs. Results stay."""
    from l2l_tasks import steps

    with _context() as ctx:
        steps.stop(ctx, campaign, _who(), reason)
    typer.echo(f"{campaign} is stopped; `l2l resume {campaign}` takes it up again")


@app.command()
def resume(
    campaign: CampaignId,
    here: Annotated[bool, typer.Option(help="carry a campaign of Airflow on in this terminal")] = False,
) -> None:
    """Let a paused or stopped campaign go on from where it is."""
    from l2l_tasks import airflow_api, runner, steps
    from l2l_tasks.cli.progress import Display
    from l2l_tasks.store import campaigns, generations

    with _context() as ctx:
        with ctx.engine.begin() as connection:
            row = campaigns.get(connection, campaign)
            last = generations.last(connection, campaign)
        generation = 0 if last is None else last.number + (last.told_at is not None)
        by_airflow = row.origin.startswith("airflow:") and not here
        if by_airflow and row.status in ("stopped", "paused"):
            airflow_api.settle(row, generation)
        steps.resume(ctx, campaign, _who())
        if not by_airflow:
            with Display() as display:
                runner.proceed(ctx, campaign, display.show)
            return
    typer.echo(airflow_api.rerun(row, generation))


@app.command()
def change(
    campaign: CampaignId,
    file: Annotated[Path | None, typer.Argument(help="its new campaign file", metavar="FILE")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", "-o", help="change a field, e.g. -o batch=20", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Let a running campaign go on with other bounds, optimizer, batch or budget."""
    from l2l_tasks import steps
    from l2l_tasks.cli.overrides import parse
    from l2l_tasks.errors import UserError
    from l2l_tasks.spec_file import load

    if file is None and not changes:
        raise UserError("nothing to change: give a campaign file, or -o KEY=VALUE")
    spec = None if file is None else load(file)
    with _context() as ctx:
        made = steps.change(ctx, campaign, spec, parse(changes or []), _who())
    typer.echo(
        f"{campaign}: version {made.version} of its specification, from generation {made.from_generation} on"
    )


@app.command()
def report(
    found: Annotated[
        list[str], typer.Argument(help="campaigns that differ in seeds and tasks only", metavar="CAMPAIGN...")
    ],
    output: Output = None,
) -> None:
    """What campaigns learned: performance at held-out tasks, before and after."""
    from l2l_tasks.report.gather import study

    with _context() as ctx, ctx.engine.begin() as connection:
        _show_study(study(connection, found), output)


@app.command()
def sweep(
    file: CampaignFile,
    tasks: Annotated[str, typer.Option(help="numbers of training tasks, e.g. 1,2,5,20", metavar="N,N,...")],
    seeds: Annotated[str, typer.Option(help="of the campaigns", metavar="N,N,...")] = "1,2,3,4,5",
    small: Small = False,
    changes: Changes = None,
    output: Output = None,
) -> None:
    """Run a campaign with several numbers of training tasks and seeds, and report what was learned."""
    from l2l_tasks import sweep as sweeping
    from l2l_tasks.cli.overrides import parse, whole_numbers
    from l2l_tasks.cli.progress import Display
    from l2l_tasks.spec_file import load
    from l2l_tasks.spec_overrides import apply_overrides, small_form

    spec = load(file)
    spec = apply_overrides(small_form(spec) if small else spec, parse(changes or []))
    specs = list(
        sweeping.variants(spec, whole_numbers("--tasks", tasks), whole_numbers("--seeds", seeds))
    )
    with _context() as ctx, Display() as display:
        found = sweeping.run(ctx, specs, file.parent, display.show, who=_who())
    _show_study(found, output)


def _show_study(found: Study, output: Path | None) -> None:
    from l2l_tasks.report import page

    typer.echo(page.text(found))
    if output is not None:
        output.write_text(page.render(found), encoding="utf-8")
        typer.echo(f"written: {output}")


@app.command()
def doctor(
    site: Annotated[list[str] | None, typer.Option(help="only these sites (default: all)")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="allow logins again after you mended what stopped them")
    ] = False,
) -> None:
    """Check the database, Airflow, MLflow and the sites; each failure says what to do."""
    from l2l_tasks.cli.doctor import allow_logins, examine, report

    if reset:
        allow_logins(site)

    if not report(examine(site)):
        raise typer.Exit(1)


@app.command()
def sites() -> None:
    """The sites that campaigns can name."""
    from l2l_tasks.cli.views import print_sites

    print_sites()


@app.command()
def schema() -> None:
    """Print the JSON Schema of campaign files, for editors."""
    from l2l_tasks.spec import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@database.command()
def upgrade() -> None:
    """Create the tables or bring them up to date (as the owner, L2L_DATABASE_OWNER_URL)."""
    from l2l_tasks import settings
    from l2l_tasks.errors import UserError
    from l2l_tasks.store.upgrade import upgrade as bring_up_to_date

    url = settings.value("L2L_DATABASE_OWNER_URL")
    if not url:
        raise UserError("L2L_DATABASE_OWNER_URL is not set: give the URL of the role that owns the tables")
    typer.echo(f"the database is at revision {bring_up_to_date(url)}")


@contextmanager
def _context() -> Iterator[Context]:
    from l2l_tasks.context import open_context

    ctx = open_context()
    try:
        yield ctx
    finally:
        ctx.close()


def _who() -> str:
    """The account that typed the command, for the record."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "cli"
