"""What stands beside the policies of a bundle: ``roles.yaml``, ``limits.yaml`` and ``autonomy.yaml``.

The rule: with a ``roles.yaml``, no policy, limit or stage can ask for a role that is not in it: nobody could approve.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import yaml

from mesh.records import Struct
from policy_service.annotations import Policy
from policy_service.autonomy import Autonomy, AutonomyError, read_autonomy
from policy_service.limits import Limit, LimitError, read_limits
from policy_service.quorum import name_of

ROLES_FILE = "roles.yaml"
LIMITS_FILE = "limits.yaml"
AUTONOMY_FILE = "autonomy.yaml"
FILES = (ROLES_FILE, LIMITS_FILE, AUTONOMY_FILE)

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]


class GovernanceError(ValueError):
    """One of the files cannot be used; ``file`` is its name."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(problem)
        self.file = file


class Governance(Struct, frozen=True, kw_only=True):
    """The files as they are meant. ``roles`` holds what each role is for; empty when the bundle declares none."""

    roles: Mapping[str, str] = {}
    limits: tuple[Limit, ...] = ()
    autonomy: Autonomy | None = None

    @classmethod
    def read(cls, files: Mapping[str, str], policies: Iterable[Policy]) -> "Governance":
        """The files of a bundle, by name, held against its policies; raises ``GovernanceError``."""
        found = cls(
            roles=_read(files, ROLES_FILE, _roles, {}),
            limits=_read(files, LIMITS_FILE, read_limits, ()),
            autonomy=_read(files, AUTONOMY_FILE, read_autonomy, None),
        )
        if ROLES_FILE in files:
            found._require_known(policies)
        return found

    def limit(self, name: str) -> Limit | None:
        """The limit of this id."""
        return next((limit for limit in self.limits if limit.id == name), None)

    def _require_known(self, policies: Iterable[Policy]) -> None:
        asked: list[tuple[str, str, tuple[str, ...]]] = [
            (policy.file, f"policy {policy.id}", (*policy.roles, *policy.stand_ins)) for policy in policies
        ]
        asked += [(LIMITS_FILE, f"limit {limit.id}", limit.approvers) for limit in self.limits]
        if self.autonomy is not None:
            roles = (*self.autonomy.approver_roles, *self.autonomy.promoter_roles)
            asked.append((AUTONOMY_FILE, "it", roles))
        for file, who, tokens in asked:
            for token in tokens:
                if name_of(token) not in self.roles:
                    known = ", ".join(sorted(self.roles)) or "none"
                    raise GovernanceError(file, f"{who} asks for {name_of(token)}, which {ROLES_FILE} lacks: {known}")


def _read(files: Mapping[str, str], name: str, convert: Any, default: Any) -> Any:
    text = files.get(name)
    if text is None:
        return default
    try:
        return convert(yaml.safe_load(text))
    except (yaml.YAMLError, msgspec.ValidationError, LimitError, AutonomyError) as error:
        raise GovernanceError(name, str(error)) from error


def _roles(table: object) -> dict[str, str]:
    return msgspec.convert(table or {}, type=dict[_Name, str])


def shortest(waits: Iterable[timedelta | None]) -> timedelta | None:
    """The shortest of several waits."""
    return min((wait for wait in waits if wait is not None), default=None)
