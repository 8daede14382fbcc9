"""Retrieval accuracy as it is now: questions with known answers, asked of the running memory on a schedule.

The rule: a probe is asked as any question is; it writes nothing, and what it measures is what agents get.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from memory_service.evaluation.measures import measured
from memory_service.view import FactView
from mesh import metrics
from mesh.clock import now
from mesh.errors import SettingsError, TerminalError
from mesh.facts import Scope, parse_scope
from mesh.memory import ProbeReport, Question

log = structlog.get_logger(__name__)

SAMPLED = 50  # facts a round, asked for by their own subject and predicate, beside the probes of the file
_LIMIT = 20


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question and where its answer stands: the slots, so that a new value changes nothing here."""

    question: str
    expected: tuple[tuple[str, str], ...]
    scope: str = "organisation/-/-"

    @property
    def place(self) -> Scope:
        """Its scope; raises ``TerminalError`` for a text that is none."""
        return parse_scope(self.scope)


_decode = msgspec.json.Decoder(Probe).decode


def read_probes(path: Path) -> tuple[Probe, ...]:
    """The probes in a file of JSON lines; raises ``SettingsError`` with the line that is none."""
    probes = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"memory.probes: cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                probe = _decode(line)
                _ = probe.place
            except (msgspec.DecodeError, TerminalError) as error:
                raise SettingsError(f"memory.probes: {path} line {number} is no probe: {error}") from error
            if not probe.expected:
                raise SettingsError(f"memory.probes: {path} line {number} expects nothing: name [subject, predicate]")
            probes.append(probe)
    return tuple(probes)


class Prober:
    """Asks the probes of a file, and for a sample of the facts that stand."""

    def __init__(self, view: FactView, probes: Sequence[Probe] = ()) -> None:
        self._view = view
        self._probes = tuple(probes)
        self.last: ProbeReport | None = None
        for result in ("found", "missed"):
            metrics.PROBES.labels(result)

    async def run(self, every_s: float) -> None:
        """Probe again and again until cancelled; 0 never does."""
        while every_s > 0:
            await asyncio.sleep(every_s)
            await self.probe()

    async def probe(self) -> ProbeReport:
        """Ask all probes once; what came of it, also as metrics."""
        at = now()
        results, times, stale = [], [], 0
        for probe in (*self._probes, *self._sample()):
            question = Question(scope=probe.place, query=probe.question, limit=_LIMIT)
            started = time.perf_counter()
            found = await self._view.recall(question)
            times.append(time.perf_counter() - started)
            stale += self._view.stale([fact.id for fact in found])
            results.append(([f"{fact.subject} {fact.predicate}" for fact in found], _names(probe)))
        self.last = _report(at, results, times, stale)
        log.info("memory_probed", **{name: getattr(self.last, name) for name in ("probes", "recall_10", "stale_hits")})
        return self.last

    def _sample(self) -> list[Probe]:
        slots = self._view.table.some_slots(SAMPLED)
        random.shuffle(slots)
        return [
            Probe(
                question=f"{slot.subject} {slot.predicate}".replace("/", " ").replace("_", " "),
                expected=((slot.subject, slot.predicate),),
                scope=slot.scope.text,
            )
            for slot in slots
        ]


def _names(probe: Probe) -> list[str]:
    return [f"{subject} {predicate}" for subject, predicate in probe.expected]


def _report(at: datetime, results: list[tuple[list[str], list[str]]], times: list[float], stale: int) -> ProbeReport:
    found = measured((list(dict.fromkeys(ranked)), expected) for ranked, expected in results)
    slowest = sorted(times)[min(len(times) - 1, int(len(times) * 0.99))] if times else 0.0
    metrics.PROBE_RECALL.set(found.recall_10)
    metrics.PROBE_NDCG.set(found.ndcg_10)
    metrics.PROBE_STALE.inc(stale)
    hits = sum(bool(set(ranked) & set(expected)) for ranked, expected in results)
    metrics.PROBES.labels("found").inc(hits)
    metrics.PROBES.labels("missed").inc(len(results) - hits)
    for took in times:
        metrics.PROBE_SECONDS.observe(took)
    return ProbeReport(
        at=at,
        probes=found.questions,
        recall_10=found.recall_10,
        ndcg_10=found.ndcg_10,
        stale_hits=stale,
        p99_ms=round(slowest * 1000, 3),
    )
