"""Back-pressure, a bus that is away, and TLS with clients' certificates."""

import datetime
import ssl
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.canonical import task_id
from mesh.records import OutcomeStatus
from tests.agents.intake.reception import entry, reception_in
from tests.ledger_pack.running import until
from tests.ledger_pack.world import SOURCE

pytestmark = pytest.mark.timeout(120)


async def test_over_the_backlog_senders_are_asked_to_come_again_and_nothing_is_lost(tmp_path: Path) -> None:
    async with reception_in(tmp_path, "planner", "policy", "executor", more="backlog_max = 20") as site:
        taken: list[str] = []
        refused = None

        async def is_refused() -> bool:
            nonlocal refused
            answer = await site.event(entry(f"flood-{len(taken)}"))
            if answer.status_code == 202:
                taken.append(answer.json()["task_id"])
                return False
            refused = answer
            return True

        await until(is_refused)
        assert refused is not None
        assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) <= 60) == (429, True)
        assert len(taken) > 20
        async with site.world.role("perception"):
            for task in taken:
                assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED

            async def is_open() -> bool:
                return (await site.event(entry("after"))).status_code == 202

            await until(is_open)
            assert (await site.world.outcome(task_id(SOURCE, "after"))).status is OutcomeStatus.COMPLETED


async def test_while_the_bus_is_away_nothing_is_said_to_be_durable(tmp_path: Path) -> None:
    async with reception_in(tmp_path) as site:
        async with site.world.bus_away():

            async def is_told() -> bool:
                answer = await site.event(entry("away"))
                return answer.status_code == 503 and answer.headers["retry-after"] == "5"

            await until(is_told)

        async def is_back() -> bool:
            return (await site.event(entry("back"))).status_code == 202

        await until(is_back)
        assert any(b'"back"' in message.data for message in await site.events())


def _certificate(
    folder: Path, name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issued_by, signed_by = issuer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(signed_by, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return subject, key


async def test_with_clients_certificates_only_they_may_connect(tmp_path: Path) -> None:
    authority = _certificate(tmp_path, "authority")
    other = _certificate(tmp_path, "other")
    _certificate(tmp_path, "server", authority)
    _certificate(tmp_path, "client", authority)
    _certificate(tmp_path, "stranger", other)
    files = {"tls_certificate": "server.pem", "tls_key": "server.key", "tls_clients": "authority.pem"}
    more = "\n".join(f'{name} = "{tmp_path / file}"' for name, file in files.items())
    async with reception_in(tmp_path, more=more) as site:
        url = str(site.client.base_url).replace("127.0.0.1", "localhost")
        assert url.startswith("https://")

        async def answers(name: str) -> int:
            context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            if name:
                context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
            async with httpx2.AsyncClient(base_url=url, verify=context, trust_env=False, timeout=10) as client:
                kind = {"content-type": "application/cloudevents+json"}
                return (await client.post("/events", json=entry(f"tls-{name}"), headers=kind)).status_code

        assert await answers("client") == 202
        for name in ("", "stranger"):
            with pytest.raises(httpx2.TransportError):
                await answers(name)
