"""What compose.yaml says of a service, brought to this host: its command, environment and files, without a container.

What stands for the engine here: secrets and mounted files are at paths of the test, a volume is a folder, and every
process listens on loopback at a free port. What a container adds (users, a read-only root, networks) is not tried here.
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mesh.supervisor import ChildSpec

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")
STATE = "/var/lib/workmesh"
SECRETS = "/run/secrets"


def composed() -> dict[str, Any]:
    """The file with its merge keys followed and its variables at their defaults."""
    found: dict[str, Any] = _filled(yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8")))
    return found


def _filled(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _filled(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value) for value in part]
    return _VARIABLE.sub(r"\1", part) if isinstance(part, str) else part


def secrets(service: dict[str, Any]) -> dict[str, str]:
    """The secrets of a service by their source, and where it finds them."""
    pairs = [(each, each) if isinstance(each, str) else (each["source"], each["target"]) for each in service["secrets"]]
    return {source: f"{SECRETS}/{target}" for source, target in pairs}


@dataclass
class Host:
    """The services of the file on this host: ``prepared`` is what prepare.sh made, ``folder`` where they run."""

    prepared: Path
    folder: Path

    def __post_init__(self) -> None:
        self.file = composed()

    def files(self, name: str) -> dict[str, Path]:
        """Where the secrets of a service are on this host, by their path in the container."""
        given = secrets(self.file["services"][name])
        return {target: self.prepared / self.file["secrets"][source]["file"] for source, target in given.items()}

    def server(self, name: str) -> bytes:
        """The configuration of a NATS server with its paths on this host."""
        files = self.files(name)
        store, mounted = self.file["services"][name]["volumes"]
        config = json.loads((self.prepared / mounted.removesuffix(":/etc/nats/server.conf:ro")).read_bytes())
        for part in (config["tls"], config["cluster"]["tls"]):
            part.update({key: str(files[value]) for key, value in part.items() if str(value).startswith(SECRETS)})
        assert store == f"{name}:{config['jetstream']['store_dir']}"
        config["jetstream"]["store_dir"] = str(self.folder / name)
        del config["http"]
        return json.dumps(config).encode()

    def process(self, name: str, url: str) -> ChildSpec:
        """A process of the mesh, with nothing but what its service is given."""
        service = self.file["services"][name]
        state, files = self.folder / name, self.files(name)
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            path = state / target.removeprefix(STATE).lstrip("/")
            if source.startswith("./"):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.symlink_to(self.prepared / source)
            else:
                path.mkdir(parents=True, mode=0o700)
        env = {key: str(files.get(value, value)) for key, value in service["environment"].items()}
        own = {"WORKMESH_STATE_DIR": str(state), "WORKMESH_BUS__URL": url}
        own |= {"WORKMESH_METRICS__HOST": "127.0.0.1", "WORKMESH_METRICS__PORT": "0"}
        own |= {key: "127.0.0.1" for key in env if key.endswith("__HOST")}
        own |= {key: "0" for key in env if key.endswith("__PORT")}
        command = [str(part) for part in service["command"]]
        log = self.folder / f"{name}.log"
        return ChildSpec(name, (sys.executable, "-m", "console.main", *command), log, env | own)


def clean() -> dict[str, str]:
    """This process's environment without settings of the mesh."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WORKMESH_")}
