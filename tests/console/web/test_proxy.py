"""Who comes by a proxy that knows people: its header counts only beside its secret."""

from pathlib import Path

import httpx2
import pytest

from console.web.security import SECRET_HEADER, Doorkeeper
from console.web.sessions import Sessions
from console.web.tokens import Tokens
from mesh.errors import SettingsError
from mesh.settings import ConsoleSettings
from mesh.trust import TrustDirectory
from tests.console.web.running_console import site_in

SECRET = "s" * 40
HEADER = "x-forwarded-user"


@pytest.mark.timeout(60)
async def test_the_header_of_the_proxy_counts_only_with_its_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    env = {"WORKMESH_CONSOLE__PROXY_HEADER": HEADER, "WORKMESH_CONSOLE__PROXY_SECRET_FILE": str(secret)}
    async with site_in(tmp_path / "site", env=env) as site, httpx2.AsyncClient(base_url=site.url) as http:
        for headers in (
            {HEADER: "vera"},
            {HEADER: "vera", SECRET_HEADER: "wrong"},
            {SECRET_HEADER: SECRET},
            {HEADER: "nobody", SECRET_HEADER: SECRET},
            {HEADER: "policy", SECRET_HEADER: SECRET},
        ):
            assert (await http.get("/tasks", headers=headers)).status_code == 403, headers
        assert (await http.post("/signin", data={"token": site.token("vera")})).status_code == 403
        vera = await http.get("/tasks", headers={HEADER: "vera", SECRET_HEADER: SECRET})
        assert vera.status_code == 200 and "vera" in vera.text and "set-cookie" in vera.headers
        olga = await http.get("/tasks", headers={HEADER: "olga", SECRET_HEADER: SECRET})
        assert olga.status_code == 200 and 'content="olga"' in olga.text  # with vera's cookie
        assert (await http.get("/tasks")).status_code == 403


def test_a_header_without_a_secret_is_refused_at_the_start(tmp_path: Path) -> None:
    def opened(secret: str) -> Doorkeeper:
        settings = ConsoleSettings(proxy_header=HEADER, proxy_secret_file=secret)
        sessions = Sessions(tmp_path / "s.db", 60)
        try:
            return Doorkeeper(settings, sessions, Tokens(tmp_path / "tokens"), TrustDirectory("root"))
        finally:
            sessions.close()

    with pytest.raises(SettingsError, match="anybody could set the header"):
        opened("")
    short = tmp_path / "short"
    short.write_text("s")
    with pytest.raises(SettingsError, match="others can read"):
        opened(str(short))
    short.chmod(0o600)
    with pytest.raises(SettingsError, match="less than 32"):
        opened(str(short))


def test_cookies_are_secure_where_browsers_come_by_tls(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "s.db", 60)
    settings = ConsoleSettings(origin="https://console.example")
    assert Doorkeeper(settings, sessions, Tokens(tmp_path / "t"), TrustDirectory("root")).is_secure
    sessions.close()
