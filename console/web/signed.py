"""What people signed in the browser, passed on to the part that takes it; each of those checks it for itself.

The rule: nothing is signed here, and a word that is not of who is signed in goes no further.
"""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.web.desk import Desk, said
from console.web.security import DeniedError, Viewer, read_body
from mesh.approvals import WordAnswer, WordRequest
from mesh.autonomy import StageLine, StageRequest
from mesh.halts import HALT
from mesh.learned import LearnRequest, ProposalLine
from mesh.memory import ChangeAnswer, SignedRequest
from mesh.records import Json

_ANSWER_S = 10.0


class _Signature(msgspec.Struct, frozen=True):
    keyid: str


class _Envelope(msgspec.Struct, frozen=True):
    signatures: tuple[_Signature, ...]


class _Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signed: Json


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Signed(desk)
    return [desk.route("/signed/{kind}", own.take, "POST", json=True)]


class Signed:
    """The endpoint, by kind of word."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kinds: dict[str, Callable[[Json], Awaitable[Response]]] = {
            "word": self._word,
            "proposal": self._proposal,
            "stage": self._stage,
            "resolve": self._resolve,
            "halt": self._halt,
        }

    async def take(self, request: Request, viewer: Viewer) -> Response:
        """Pass one on; the answer says what came of it."""
        take = self._kinds.get(request.path_params["kind"])
        if take is None:
            raise DeniedError(404, "there is no such word")
        try:
            signed = msgspec.json.decode(await read_body(request), type=_Given).signed
            keys = [each.keyid for each in msgspec.json.decode(signed, type=_Envelope).signatures]
        except msgspec.DecodeError as error:
            raise DeniedError(400, f"this is no signed word: {error}") from error
        if keys != [viewer.entry.public_key]:
            raise DeniedError(403, f"{viewer.name} is signed in, and this is not signed with the key of {viewer.name}")
        return await take(signed)

    async def _word(self, signed: Json) -> Response:
        answer = await self._desk.ask("policy", "say", WordRequest(signed=signed), WordAnswer, _ANSWER_S)
        told = answer.verdict or "it still waits"
        return said(f"{told}: {answer.reason}" if answer.reason else told, verdict=answer.verdict)

    async def _proposal(self, signed: Json) -> Response:
        line = await self._desk.ask("learner", "say", LearnRequest(signed=signed), ProposalLine, _ANSWER_S)
        self._desk.live.tell(("governance",))
        return said(f"The proposal is {line.state}: {line.proposal.change.sentence()}")

    async def _stage(self, signed: Json) -> Response:
        line = await self._desk.ask("policy", "stage", StageRequest(signed=signed), StageLine, _ANSWER_S)
        self._desk.live.tell(("governance",))
        return said(f"{line.tool} of {line.domain} is {line.stage} now")

    async def _resolve(self, signed: Json) -> Response:
        answer = await self._desk.ask("memory", "resolve", SignedRequest(signed=signed), ChangeAnswer, _ANSWER_S)
        self._desk.live.tell(("facts",))
        return said(f"{answer.changed} fact{'' if answer.changed == 1 else 's'} judged anew")

    async def _halt(self, signed: Json) -> Response:
        standing = await self._desk.controls.put_signed(self._desk.committer, HALT, bytes(signed))
        self._desk.live.tell(("governance",))
        act = standing.act
        return said(f"{act.scope} {'is halted' if act.halted else 'goes on'}, says {act.person}")
