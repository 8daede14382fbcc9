"""``workmesh eval``: the cases of a pack's prompts, held against a model, or against what one said before."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.table import Table

from agents.planner.cases import FOLDER, load_cases
from agents.planner.evaluating import Asking, Report
from agents.planner.evaluating import evaluate as evaluate_cases
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import SettingsError
from mesh.inference import Prompt, Tier
from mesh.messages import messages_api
from mesh.pack import Pack, load_packs
from mesh.prices import load_prices
from mesh.scripted.recording import recording
from mesh.scripted.server import scripted_model
from mesh.settings import ModelSettings, load
from mesh.spending import dollars

TookSeconds = Callable[[str], float | None]
Server = Callable[[], AbstractAsyncContextManager[tuple[ModelSettings, TookSeconds]]]

_PUBLIC_API = "https://api.anthropic.com"

FileOption = click.Path(path_type=Path, dir_okay=False)


@click.command("eval")
@click.argument("pack")
@click.option("--model", default="", help="Ask this one, whatever the role.")
@click.option(
    "--tier", type=click.Choice([tier.value for tier in Tier]), help="Ask the model of this tier, whatever the role."
)
@click.option("--base-url", default="", help="The server to ask. Default: as in the settings.")
@click.option(
    "--record", type=FileOption, help="Write what the model says to this file; what stands there is not asked."
)
@click.option("--replay", type=FileOption, help="Ask no model: the conversations in this file answer.")
@click.option("--min-pass", type=click.FloatRange(0, 1), default=0.9, show_default=True, help="1 below this part.")
@json_option
@config_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    pack: str,
    model: str,
    tier: str | None,
    base_url: str,
    record: Path | None,
    replay: Path | None,
    min_pass: float,
    as_json: bool,
    config: Path | None,
) -> None:
    """Plan the cases of PACK's prompts, and compare the plans with those expected.

    By default each question goes to the model that it would go to first. The time of replayed answers is the recorded
    one; their cost follows from the recorded tokens.
    """
    if (model and tier) or (record and replay) or (replay and base_url):
        raise click.UsageError("give one of --model and --tier, and one of --record, --replay; no --base-url to replay")
    settings = load(config).models
    if base_url:
        settings = msgspec.structs.replace(settings, base_url=base_url)
    chosen = model or (getattr(settings, tier) if tier else "")
    known = [file for file in (replay, record if record and record.exists() else None) if file]
    server = partial(_server, settings, record, known)
    report = run_async(_evaluate(load_packs((pack,))[pack], settings, chosen, server, min_pass))
    if as_json:
        print_json(report)
    else:
        _show(report)
    ctx.exit(0 if report.ok else 1)


async def _evaluate(pack: Pack, settings: ModelSettings, model: str, server: Server, min_pass: float) -> Report:
    if pack.prompts is None:
        raise SettingsError(f"the pack {pack.name} has no prompts")
    cases, prices = load_cases(pack.prompts / FOLDER), load_prices(settings.prices)

    def model_of(prompt: Prompt) -> str:
        return model or str(getattr(settings, prompt.chain[0]))

    async with server() as (found, took_s), messages_api(found) as messages:
        return await evaluate_cases(pack, cases, Asking(messages, settings, prices, model_of, took_s), min_pass)


@asynccontextmanager
async def _server(
    settings: ModelSettings, record: Path | None, known: Sequence[Path]
) -> AsyncIterator[tuple[ModelSettings, TookSeconds]]:
    """The settings of the server to ask: the model's, or of one between that records or replays."""
    async with AsyncExitStack() as stack:
        recorder = None
        if record:
            base_url = settings.base_url or os.environ.get("ANTHROPIC_BASE_URL") or _PUBLIC_API
            recorder = await stack.enter_async_context(recording(base_url, record))
        elif not known:
            yield settings, lambda _: None
            return
        server = await stack.enter_async_context(scripted_model(known, recorder=recorder))

        def took_s(request_id: str) -> float | None:
            """How long the answer took when it was recorded."""
            return next((call.took_s for call in server.calls if call.request_id == request_id), None)

        yield msgspec.structs.replace(settings, base_url=server.url), took_s


def _show(report: Report) -> None:
    out = stdout()
    table = Table("model", "role", "questions", "wrong", "failed", "in", "out", "cost", "p50 s", "p95 s")
    for line in report.by:
        counts = (line.questions, line.wrong, line.failed, line.tokens_in, line.tokens_out)
        times = (f"{line.p50_s:.3f}", f"{line.p95_s:.3f}")
        table.add_row(line.model, line.role, *map(str, counts), dollars(line.cost_micro_usd), *times)
    out.print(table)
    for result in report.results:
        if result.fault:
            out.print(f"FAILED {result.case}: {result.fault}")
    passed = f"{report.passed} of {report.cases} cases passed ({report.pass_rate:.0%}, {report.min_pass:.0%} wanted)"
    out.print(f"{report.pack}: {passed} for {dollars(report.cost_micro_usd)}")
