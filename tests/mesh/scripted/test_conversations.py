"""Files read as conversations; what is misspelt or says two things at once is refused with its place."""

from pathlib import Path

import pytest

from mesh.errors import SettingsError
from mesh.scripted.asked import Asked, read
from mesh.scripted.conversations import Conversation, Turn, When, dump, load
from tests.mesh.scripted.asking import params

FILE = """
conversation: A customer sends a kettle back
when: {asks: intent, user: ["#W1", kettle]}
says:
- answer: {intent: retail.return.requested, order_id: "#W1"}
---
conversation: The large model is overloaded, and then declines
when: {model: "claude-opus-*", user_matches: "refund \\\\d+"}
says:
- {status: 529, times: 2}
- refusal: I cannot help with that.
"""


def asked(user: str, **more: object) -> Asked:
    return read(params(user, **more))


def test_a_file_holds_several_conversations_and_comes_back_from_its_own_text(tmp_path: Path) -> None:
    path = tmp_path / "talk.yaml"
    path.write_text(FILE, encoding="utf-8")
    kettle, opus = load(path)
    assert kettle.when.holds(asked("Return the kettle of #W1"))
    assert not kettle.when.holds(asked("Return the kettle of #W2"))
    assert not opus.when.holds(asked("refund 12"))
    assert opus.when.holds(asked("refund 12", model="claude-opus-4-5"))
    path.write_text(dump([kettle, opus]), encoding="utf-8")
    assert load(path) == (kettle, opus)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("conversation: a\nsays: []", "length"),
        ("conversation: a\nsays: [{anwser: {}}]", "anwser"),
        ("conversation: a\nsays: [{text: hello, status: 500}]", "status and text"),
        ("conversation: a\nsays: [{delay_s: 1}]", "says one of"),
        ("conversation: a\nwhen: {path: /v1/messages}\nsays: [{text: hello}]", "status or a disconnect"),
        ("conversation: a\nwhen: {user_matches: '('}\nsays: [{text: hello}]", "regular expression"),
        ("conversation: [a", "talk.yaml"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "talk.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=why):
        load(path)


def test_exact_text_and_prefix_are_held_to_the_letter() -> None:
    prompt = asked("  Send #W1 back ")
    exact = Conversation(
        conversation="c", when=When(user_is="Send #W1 back", prefix=prompt.prefix), says=(Turn(text="x"),)
    )
    assert exact.when.holds(prompt)
    assert not exact.when.holds(asked("Send #W1 back, please"))
    assert not exact.when.holds(asked("Send #W1 back", system="Another prompt"))
