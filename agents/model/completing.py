"""The record of what came of a prompt, however it was asked."""

import structlog

from agents.model.asking import Ending, trace_of
from mesh import metrics, subjects
from mesh.clock import now
from mesh.inference import Completion, Prompt, Usage
from mesh.record import Causation, Header
from mesh.spending import cost

log = structlog.get_logger(__name__)

_COST = metrics.Bound(metrics.MODEL_COST)
_COMPLETIONS = metrics.Bound(metrics.COMPLETIONS)


def completion_subject(prompt: Prompt) -> str:
    """Where the completion of a prompt stands."""
    return subjects.record("completion", prompt.header.domain, prompt.header.task_id, prompt.name)


def completion_of(
    prompt: Prompt,
    seq: int,
    writer: str,
    ending: Ending,
    usage: tuple[Usage, ...] = (),
    *,
    reused: str = "",
    batch: str = "",
    duration_ms: float = 0.0,
) -> Completion:
    """The completion of the prompt that stands at ``seq`` of the journal."""
    head = prompt.header
    return Completion(
        header=Header(
            task_id=head.task_id,
            domain=head.domain,
            causation=Causation(stream=subjects.JOURNAL, subject=subjects.of(prompt), seq=seq),
            writer=writer,
            at=now(),
            traceparent=trace_of(prompt),
        ),
        name=prompt.name,
        status=ending.status,
        model=ending.model,
        output=ending.output,
        text=ending.text,
        reason=ending.reason,
        usage=usage,
        reused=reused,
        batch=batch,
        duration_ms=round(duration_ms, 1),
    )


def counted(completion: Completion) -> Completion:
    """Count a completion, and write its line: without a word of what was asked or answered."""
    domain = completion.header.domain
    _COMPLETIONS.of(domain, completion.status).inc()
    for call in completion.usage:
        _COST.of(domain, call.model, str(call.certain).lower()).inc(call.cost_micro_usd)
    log.info(
        "question_answered",
        task=completion.header.task_id,
        name=completion.name,
        status=completion.status,
        model=completion.model,
        cost_micro_usd=cost(completion.usage),
        calls=len(completion.usage),
        reused=bool(completion.reused),
        batch=completion.batch,
        ms=completion.duration_ms,
    )
    return completion
