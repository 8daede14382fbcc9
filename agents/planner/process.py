"""The planner process."""

import os

from agents.planner.budgets import Budgets
from agents.planner.handler import Planner
from agents.planner.learned import LearnedChanges
from agents.planner.making import Maker
from agents.planner.playbook import load_playbooks
from agents.planner.prompts import load_prompts
from agents.planner.repeats import Repeats
from agents.planner.texts import Texts
from agents.planner.turns import PLACES, WAIT_HERE_S, Turns
from mesh.control import controlling
from mesh.learned import LEARNED
from mesh.lifetime import background
from mesh.process import opened
from mesh.recall import recalling
from mesh.settings import Settings
from mesh.toolbox import Toolbox


async def run(settings: Settings) -> None:
    """Plan until asked to stop."""
    async with opened(settings, "planner") as process:
        systems = await process.connect_packs()
        tools = {
            name: {tool.name: tool for tool in pack.tools(process.options[name])}
            for name, pack in process.packs.items()
        }
        playbooks = {name: load_playbooks(pack.playbooks, tools[name]) for name, pack in process.packs.items()}
        toolboxes = {name: Toolbox(tools[name], systems[name]) for name in process.packs}
        # Less than the handler's limit, which would take a long wait for a fault.
        wait_here_s = min(WAIT_HERE_S, settings.runtime.handler_timeout_s / 3)
        turns = Turns(process.bus, process.journal, process.stopping, wait_here_s=wait_here_s)
        recall = await process.exit.enter_async_context(recalling(process.bus, settings.recall))
        learned = LearnedChanges(playbooks)
        controls = await process.exit.enter_async_context(controlling(process.bus, settings.root_key(), LEARNED))
        controls.on_change(LEARNED, learned.replace)
        maker = Maker(recall, playbooks, toolboxes, learned)
        prompts = {name: load_prompts(pack.prompts, tools[name], pack.events) for name, pack in process.packs.items()}
        budgets = Budgets(process.bus, settings.models)
        are_on = settings.models.is_on(os.environ)
        texts = Texts(maker, prompts, toolboxes, settings.models, budgets.left, are_on=are_on)
        planner = Planner(
            process.journal,
            maker,
            texts,
            turns,
            Repeats(process.journal, process.packs),
            at_once=settings.runtime.concurrency,
            slo_of=lambda domain: settings.models.budget_of(domain).slo,
        )
        async with background(turns.give_way(), "turns"):
            await process.run_stage(planner.plan, places=PLACES)
