"""The planner's text side apart from bus and systems: reads are answered from records, memory as it was recalled.

The rule: what is not on record is not read; nothing here reaches a system, whatever a model asks for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from agents.planner.learned import LearnedChanges
from agents.planner.making import Maker
from agents.planner.playbook import Playbook, load_playbooks
from agents.planner.prompts import Prompts, load_prompts
from agents.planner.texts import Texts
from mesh.errors import ToolRefusedError
from mesh.facts import RecalledFact
from mesh.memory import Question
from mesh.pack import Pack
from mesh.recall import Recollection
from mesh.record import Json, Reading
from mesh.settings import ModelSettings
from mesh.toolbox import Toolbox
from mesh.tools import Tool, ToolCall

OnRecord = Callable[[str, Json], Json | None]
"""What a tool answered to these arguments; ``None`` where that is not on record."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A pack's tools, playbooks and prompts, compiled: for who plans many texts."""

    tools: dict[str, Tool]
    playbooks: tuple[Playbook, ...]
    prompts: Prompts | None


def compiled(pack: Pack) -> Compiled:
    """Compile a pack; raises ``SettingsError``."""
    tools = {tool.name: tool for tool in pack.tools(pack.read_options(None))}
    return Compiled(tools, load_playbooks(pack.playbooks, tools), load_prompts(pack.prompts, tools, pack.events))


def texts_apart(
    pack: Pack,
    on_record: OnRecord,
    recalled: Sequence[RecalledFact] = (),
    settings: ModelSettings | None = None,
    known: Compiled | None = None,
) -> Texts:
    """The text side of a planner of one pack."""
    known = known or compiled(pack)
    playbooks, prompts = {pack.name: known.playbooks}, {pack.name: known.prompts}
    toolboxes = {pack.name: Toolbox({name: _recorded(tool, on_record) for name, tool in known.tools.items()}, {})}
    maker = Maker(_Recalled(recalled), playbooks, toolboxes, LearnedChanges(playbooks))
    return Texts(maker, prompts, toolboxes, settings or ModelSettings(), _all_of_it, are_on=True)


def recorded_in(tools: Mapping[str, Tool], readings: Iterable[Reading]) -> OnRecord:
    """What these readings say; whether arguments are the same is seen by the tool's own struct."""
    found: dict[tuple[str, bytes], Json] = {}
    for reading in readings:
        tool = tools.get(reading.call.tool)
        if tool is not None:
            found[tool.name, msgspec.json.encode(tool.parse(reading.call.args))] = reading.answer

    def answer(tool: str, args: Json) -> Json | None:
        return found.get((tool, bytes(args)))

    return answer


class _Recalled:
    def __init__(self, facts: Sequence[RecalledFact]) -> None:
        self._facts = tuple(facts)

    async def recall(self, questions: Sequence[Question], *, anew: bool = False) -> Recollection:
        return Recollection(self._facts, ())


def _recorded(tool: Tool, on_record: OnRecord) -> Tool:
    async def run(args: msgspec.Struct, _: ToolCall) -> msgspec.Struct:
        answer = on_record(tool.name, msgspec.Raw(msgspec.json.encode(args)))
        if answer is None:
            raise ToolRefusedError("not_on_record", f"what {tool.name} answers to this is not on record")
        found: msgspec.Struct = msgspec.json.decode(answer)
        return found

    return replace(tool, run=run, verify=run if tool.verify else None, target="records")


async def _all_of_it(_: str) -> float:
    return 1.0
