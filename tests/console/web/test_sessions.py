"""Sessions, tokens and wrong attempts, alone."""

from datetime import timedelta
from pathlib import Path

import pytest

from console.web.sessions import Attempts, Sessions
from console.web.tokens import Tokens, add_token, read_tokens, remove_tokens
from mesh.errors import SettingsError, WorkmeshError

HOUR = timedelta(hours=1)


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_session_is_found_by_its_secret_until_its_time_is_over(tmp_path: Path) -> None:
    clock = Clock()
    sessions = Sessions(tmp_path / "s.db", 60, clock)
    secret, made = sessions.open("carla", "abc")
    assert sessions.find(secret) == made
    assert sessions.find(("y" if secret[0] == "x" else "x") + secret[1:]) is None
    assert secret.encode() not in (tmp_path / "s.db").read_bytes() + (tmp_path / "s.db-wal").read_bytes()
    clock.at += 61
    assert sessions.find(secret) is None
    sessions.close()


def test_sessions_outlive_the_process_and_end_when_told(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "s.db", 60)
    kept, _ = sessions.open("carla", "abc")
    ended, _ = sessions.open("carla", "abc")
    sessions.end(ended)
    sessions.close()
    again = Sessions(tmp_path / "s.db", 60)
    assert again.find(kept) is not None and again.find(ended) is None
    again.close()


def test_one_person_cannot_fill_the_sessions(tmp_path: Path) -> None:
    clock = Clock()
    sessions = Sessions(tmp_path / "s.db", 3600, clock)
    other, _ = sessions.open("anna", "abc")
    secrets = []
    for _ in range(25):
        clock.at += 1
        secrets.append(sessions.open("carla", "abc")[0])
    assert [sessions.find(secret) is not None for secret in secrets] == [False] * 5 + [True] * 20
    assert sessions.find(other) is not None
    sessions.close()


def test_wrong_tokens_of_one_address_are_bounded_and_others_go_on() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(10):
        assert attempts.wait_s("a") == 0
        attempts.failed("a")
    assert 0 < attempts.wait_s("a") <= 61
    assert attempts.wait_s("b") == 0
    clock.at += 61
    assert attempts.wait_s("a") == 0


def test_a_token_lets_in_until_it_is_over_or_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "console" / "tokens"
    tokens = Tokens(path)
    assert tokens.find("wmc_x") is None
    given, over = add_token(path, "carla", HOUR), add_token(path, "anna", -HOUR)
    found = tokens.find(given)
    assert found is not None and found.person == "carla" and tokens.stands(found.id)
    assert tokens.find(over) is None
    assert path.stat().st_mode & 0o077 == 0
    assert given not in path.read_text()
    assert remove_tokens(path, "carla") == 1
    assert tokens.find(given) is None and not tokens.stands(found.id)
    with pytest.raises(WorkmeshError, match="has no token"):
        remove_tokens(path, "carla")


def test_a_damaged_file_of_tokens_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text('{"person": 1}\n')
    with pytest.raises(SettingsError, match="tokens:1"):
        read_tokens(tmp_path / "tokens")
