"""``workmesh models scripted`` serves files by hand and says at the end what was billed."""

import asyncio
import signal
import sys
from pathlib import Path

from anthropic import AsyncAnthropic

from mesh.scripted.conversations import Turn, dump, load
from mesh.scripted.server import scripted_model
from tests.mesh.scripted.asking import RETURN, ask, says

WORKMESH = Path(sys.executable).with_name("workmesh")


async def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "talk.yaml"
    file.write_text(dump([says(Turn(answer=RETURN), user="#W1")]), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        WORKMESH, "models", "scripted", file, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        line = (await process.stdout.readline()).decode().strip()
        name, _, url = line.partition("=")
        assert name == "ANTHROPIC_BASE_URL"
        async with AsyncAnthropic(api_key="any", base_url=url) as client:
            assert (await ask(client)).stop_reason == "tool_use"
    finally:
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 0
    assert b"1 requests, 1 billed" in err


async def test_what_no_file_answers_is_asked_elsewhere_and_written_down(tmp_path: Path) -> None:
    file = tmp_path / "recorded.yaml"
    async with scripted_model([says(Turn(answer=RETURN))]) as real:
        process = await asyncio.create_subprocess_exec(
            WORKMESH, "models", "scripted", file, "--record", real.url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        try:
            url = (await process.stdout.readline()).decode().strip().partition("=")[2]
            async with AsyncAnthropic(api_key="sk-secret", base_url=url) as client:
                assert (await ask(client)).stop_reason == (await ask(client)).stop_reason == "tool_use"
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        assert len(real.billed) == 1
    (recorded,) = load(file)
    assert (recorded.says[0].answer, recorded.when.user_is) == (RETURN, "Send #W1 back")


async def test_a_wrong_file_is_wrong_use(tmp_path: Path) -> None:
    file = tmp_path / "talk.yaml"
    file.write_text("conversation: nothing is said", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(WORKMESH, "models", "scripted", file, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"talk.yaml, document 1" in err
