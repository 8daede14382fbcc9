"""Read-only calls while planning: what they answer stands in the records, so that a replay needs no credentials."""

from collections.abc import Iterable

import msgspec

from agents.planner.playbook import Invocation
from mesh.clock import unix
from mesh.errors import NotSentError, RetryableError, TerminalError, ToolRefusedError, UncertainError
from mesh.expressions import Variables
from mesh.records import Call, Reading
from mesh.toolbox import Toolbox


async def read_all(
    toolbox: Toolbox, reads: Iterable[tuple[str, Invocation]], variables: Variables, trace: str = ""
) -> tuple[Reading, ...]:
    """The reads in order; each sees the answers of those before it as ``reads.<name>``.

    Raises ``TerminalError`` for a read that is refused, ``RetryableError`` while its target cannot be asked.
    """
    readings: list[Reading] = []
    for name, invocation in reads:
        call = Call(tool=invocation.tool, args=invocation.arguments(variables))
        readings.append(await look(toolbox, name, call, variables["task_id"], trace))
        variables.put("reads", {read.name: msgspec.json.decode(read.answer) for read in readings})
    return tuple(readings)


async def look(toolbox: Toolbox, name: str, call: Call, task_id: str, trace: str = "") -> Reading:
    """One read, under the span of its plan; raises as ``read_all`` does."""
    tool = toolbox.find(call.tool)
    until = unix() + tool.timeout_s
    try:
        answer = await toolbox.call(tool, call.args, key=f"read-{task_id}", epoch=0, call_by=until, trace=trace)
    except ToolRefusedError as error:
        raise TerminalError(f"read {name} ({call.tool}) was refused: {error}") from error
    except (NotSentError, UncertainError) as error:
        raise RetryableError(f"read {name} ({call.tool}): {error}", delay_s=toolbox.wait_s(tool)) from error
    return Reading(name=name, call=call, answer=answer, taint=tool.outside)
