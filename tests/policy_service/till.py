"""A small domain of three tools to write policies about."""

import msgspec

from mesh.pack import Sheet
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Question

SCHEMA = """
entity Agent enum ["planner"];
entity Tool enum ["till.pay", "till.count", "till.open"];
action "propose", "execute" appliesTo {
  principal: Agent,
  resource: Tool,
  context: {
    tool: String,
    amount: Long,
    currency: String,
    approvals: Set<String>,
    tainted: Set<String>,
    facts: { ok: Bool, count: Long }
  }
};
"""


def make_bundle(text: str, *, cases: str = "", sliced: bool = True) -> Bundle:
    """Policies of the till, compiled."""
    files = (("cases/till.yaml", cases), ("schema.cedarschema", SCHEMA), ("till.cedar", text))
    return Bundle.load(BundleContents(domain="till", files=files), sliced=sliced)


def make_question(tool: str = "till.pay", amount: int = 100, ok: bool = True, count: int = 1) -> Question:
    """One step at the till."""
    facts = msgspec.Raw(msgspec.json.encode({"ok": ok, "count": count}))
    return Question(step="one", tool=tool, sheet=Sheet(facts=facts, amount=amount))
