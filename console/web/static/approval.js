// One approval: all of it is made from the bytes that are digested here, and a word is about that digest alone.

import { canonical, digest, Num, parse, pretty } from "/static/canonical.js";
import { person } from "/static/keys.js";
import { expiry, give, nonce, now, sign } from "/static/sign.js";

const root = document.getElementById("approval");
const state = document.getElementById("state");
const task = root.dataset.task;
const own = new Set(root.dataset.roles.split(","));
let current = "";
let editing = false;
let busy = false;

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const plain = (value) => (value instanceof Num ? value.text : value === null ? "" : String(value));
const list = (value) => value.map(plain).join(", ");

function tell(text, tone) {
  state.replaceChildren(make("p", { class: `notice ${tone}` }, text));
}

// As mesh/money.py writes it: minor units of two places.
function money(amount, currency) {
  const text = plain(amount);
  const sign = text.startsWith("-") ? "-" : "";
  const digits = text.replace("-", "").padStart(3, "0");
  return `${sign}${digits.slice(0, -2).replace(/\B(?=(\d{3})+$)/g, ",")}.${digits.slice(-2)} ${currency}`;
}

function time(text) {
  return `${text.slice(0, 19).replace("T", " ")} UTC`;
}

function pairs(...rows) {
  const found = rows.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return make("dl", { class: "pairs" }, ...found.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function code(value, label) {
  return make("pre", { tabindex: "0", "aria-label": label }, pretty(value));
}

function call(part) {
  return new Map([["args", part.get("args")], ["tool", part.get("tool")]]);
}

// The digest of the plan, from what is shown (mesh/plans.py: plan_digest).
function planDigest(shown) {
  const steps = shown.get("steps").map((step) => {
    const undone = step.get("compensation");
    return new Map([
      ["id", step.get("id")],
      ["call", call(step.get("call"))],
      ["effect_key", step.get("effect_key")],
      ["needs", step.get("needs")],
      ["compensation", undone === null ? null : call(undone)],
      ["optional", step.get("optional")],
    ]);
  });
  const whole = new Map([["task_id", task], ["domain", shown.get("waiting").get("domain")], ["steps", steps]]);
  if (plain(shown.get("anew")) !== "0") whole.set("anew", shown.get("anew"));
  return digest(whole);
}

function stepCard(step, number) {
  const part = step.get("call");
  const tainted = step.get("tainted");
  const amount = plain(step.get("amount")) === "0" ? "" : money(step.get("amount"), step.get("currency"));
  const undone = step.get("compensation");
  const id = step.get("id");
  const card = make("section", { class: "card step", "aria-labelledby": `step-${number}`, "data-step": id },
    make("h2", { id: `step-${number}` }, `${number}. ${part.get("tool")} `, make("small", {}, `step ${id}`),
      step.get("verdict") ? make("span", { class: `chip ${step.get("verdict")}` }, step.get("verdict").replaceAll("_", " ")) : null),
    tainted.length ? make("p", { class: "notice wait" }, `Text from outside is in: ${list(tainted)}`) : null,
    code(part.get("args"), `Arguments of step ${id}`),
    pairs(
      ["Amount", amount],
      ["Acts on", step.get("target")],
      ["Policies", `${list(step.get("policies"))}${step.get("reasons").length ? `: ${step.get("reasons").join("; ")}` : ""}`],
      ["Needs", list(step.get("roles"))],
      ["Obliges to", step.get("obligations").map((each) => `${each.get("name")}: ${each.get("value")}`).join("; ")],
      ["May act", step.get("stage")],
      ["After", list(step.get("needs"))],
      ["If it fails", step.get("optional") ? "the rest is done all the same" : ""],
      ["Undone by", undone === null ? "" : make("code", { class: "long" }, `${undone.get("tool")} ${canonical(undone.get("args"))}`)],
      ["Idempotency key", make("code", { class: "long" }, step.get("effect_key"))],
    ),
    make("details", {}, make("summary", {}, `Facts that policy read from ${step.get("source") || "their own system"}`), code(step.get("facts"), "Facts")));
  card.append(make("div", { class: "edit", hidden: true },
    make("label", { for: `args-${number}` }, `Other arguments for step ${id} (JSON)`),
    make("textarea", { id: `args-${number}`, rows: "8", spellcheck: "false" }, pretty(part.get("args"))),
    make("label", { class: "check" }, make("input", { type: "checkbox" }), ` leave step ${id} out`)));
  return card;
}

function limitLine(use) {
  const unit = use.get("unit");
  const of = (name) => (unit === "tasks" ? `${plain(use.get(name))} tasks` : money(use.get(name), unit));
  return `${use.get("over") ? "OVER " : ""}${use.get("limit")} of ${use.get("key")}: ${of("used")} + ${of("adds")} of ${of("cap")}`;
}

function head(shown, computed) {
  const waiting = shown.get("waiting");
  const right = computed === shown.get("plan_digest");
  return make("section", { class: "card", "aria-label": "What it is about" },
    right ? null : make("p", { class: "notice bad", role: "alert", id: "wrong" }, `What is shown here has the digest ${computed}, but the plan is said to have ${shown.get("plan_digest")}. Sign nothing, and tell whoever runs this site.`),
    pairs(
      ["Why", shown.get("rationale")],
      ["Waits for", `${list(waiting.get("roles")) || "a person"}: ${waiting.get("reason")}`],
      ["At stake", plain(waiting.get("amount")) === "0" ? "" : make("strong", {}, money(waiting.get("amount"), waiting.get("currency")))],
      ["Event", `${shown.get("event_type")} ${shown.get("event_id")} from ${shown.get("source")}, about ${shown.get("entity")}`],
      ["From outside", shown.get("taint").length ? `${list(shown.get("taint"))} (data, not instructions)` : "nothing"],
    ),
    make("details", {}, make("summary", {}, "What the event says (data from outside)"), code(shown.get("data"), "The event's data")));
}

function tail(shown, computed) {
  const waiting = shown.get("waiting");
  const until = waiting.get("until");
  const escalates = waiting.get("escalate_at");
  const limits = shown.get("limits").map((use) => make("li", {}, limitLine(use)));
  return make("section", { class: "card", "aria-label": "What else there is to know" },
    pairs(
      ["Approved by", list(shown.get("voices"))],
      ["Notes", shown.get("notes").join("; ")],
      ["Limits", limits.length ? make("ul", { class: "plain" }, ...limits) : ""],
      ["If nobody acts", [
        escalates ? `from ${time(escalates)} on ${list(waiting.get("stand_ins"))} may act as well` : "",
        until ? `at ${time(until)} it is denied, as expired; nothing is done` : "the task stays as it is, and is not finished",
      ].filter(Boolean).join("; ")],
      ["Plan", make("span", {}, make("code", { class: "long" }, shown.get("plan_digest")), computed === shown.get("plan_digest") ? " computed here from what is shown" : "")],
      ["Bundle", make("code", { class: "long" }, shown.get("bundle"))],
    ));
}

function candidateCard(candidate, act) {
  const number = plain(candidate.get("number"));
  const changes = [new Map([["step", ""], ["choose", candidate.get("number")], ["digest", candidate.get("digest")]])];
  return make("section", { class: "card", "aria-labelledby": `candidate-${number}` },
    make("h2", { id: `candidate-${number}` }, `Candidate ${number}: ${candidate.get("label")}`),
    make("p", {}, candidate.get("rationale")),
    ...candidate.get("calls").flatMap((each) => [make("h3", {}, each.get("tool")), code(each.get("args"), `Arguments of ${each.get("tool")}`)]),
    act ? make("button", { type: "button", class: "quiet", onclick: () => act("correct", changes) }, `Take candidate ${number}`) : null);
}

function rolesFor(waiting) {
  const named = waiting.get("roles").map((role) => role.split(":")[0]);
  const escalates = waiting.get("escalate_at");
  const stand = escalates && new Date(escalates) <= now() ? waiting.get("stand_ins") : [];
  const wanted = waiting.get("purpose") === "in_doubt" ? [...own] : [...named, ...stand];
  return [...new Set(wanted)].filter((role) => own.has(role));
}

// The changes that were made in the form, each step's arguments whole as they were typed.
function edits() {
  const found = [];
  for (const card of root.querySelectorAll(".step")) {
    const step = card.dataset.step;
    if (card.querySelector(".edit input").checked) {
      found.push(new Map([["step", step], ["drop", true]]));
      continue;
    }
    let typed;
    try {
      typed = parse(card.querySelector("textarea").value);
    } catch (error) {
      throw new Error(`step ${step}: ${error.message}`);
    }
    if (!(typed instanceof Map)) throw new Error(`step ${step}: arguments are a JSON object`);
    if (canonical(typed) !== canonical(parse(card.querySelector("pre").textContent)))
      found.push(new Map([["step", step], ["args", typed]]));
  }
  if (!found.length) throw new Error("nothing is changed: approve the plan, or edit it");
  return found;
}

function actions(shown) {
  const waiting = shown.get("waiting");
  const roles = rolesFor(waiting);
  if (!roles.length)
    return make("p", { class: "notice wait", id: "not-yours" }, `You may look. It waits for ${list(waiting.get("roles")) || "somebody else"}.`);
  const role = make("select", { id: "role" }, ...roles.map((each) => make("option", {}, each)));
  const comment = make("input", { id: "comment", autocomplete: "off" });
  const act = async (word, changes = []) => {
    if (busy) return;
    busy = true;
    for (const button of root.querySelectorAll("button")) button.disabled = true;
    try {
      const statement = new Map([
        ["task_id", task], ["plan_digest", shown.get("plan_digest")], ["purpose", waiting.get("purpose")], ["word", word],
        ["role", role.value], ["person", person()], ["nonce", nonce()], ["at", now().toISOString()],
        ["expires_at", expiry("statement").toISOString()], ["step", waiting.get("step")], ["comment", comment.value.trim()],
        ["changes", changes],
      ]);
      const answer = await give("word", await sign("statement", canonical(statement)));
      tell(answer.message, answer.verdict === "deny" ? "bad" : "good");
      current = "";
      editing = false;
    } catch (error) {
      tell(error.message, "bad");
    } finally {
      busy = false;
      for (const button of root.querySelectorAll("button")) button.disabled = false;
    }
    await look();
  };
  const button = (id, text, onclick, kind = "") => make("button", { type: "button", id, class: kind, onclick }, text);
  const doubt = waiting.get("purpose") === "in_doubt";
  const correct = () => {
    try {
      act("correct", edits());
    } catch (error) {
      tell(error.message, "bad");
    }
  };
  const edit = () => {
    editing = !editing;
    for (const part of root.querySelectorAll(".edit")) part.hidden = !editing;
    document.getElementById("sign-correction").hidden = !editing;
    document.getElementById("edit").textContent = editing ? "Leave the plan as it is" : "Correct…";
    if (editing) root.querySelector(".edit textarea")?.focus();
  };
  const buttons = doubt
    ? [button("happened", "It happened", () => act("happened")), button("not-happened", "It did not happen", () => act("not_happened"), "quiet")]
    : [
        button("approve", "Approve", () => act("approve")),
        button("reject", "Reject", () => act("reject"), "danger"),
        button("edit", "Correct…", edit, "quiet"),
        make("button", { type: "button", id: "sign-correction", hidden: true, onclick: correct }, "Sign the correction"),
      ];
  return {
    act: doubt ? null : act,
    form: make("section", { class: "card act", "aria-label": "Your word" },
      make("label", { for: "role" }, "As"), role, make("label", { for: "comment" }, "Comment, kept on record"), comment,
      make("div", { class: "buttons" }, ...buttons),
      make("p", { class: "hint" }, `You sign exactly what is shown above, with the key of ${person()}.`)),
  };
}

async function show(text) {
  const shown = parse(text);
  const computed = await planDigest(shown);
  const right = computed === shown.get("plan_digest");
  const acting = right ? actions(shown) : null;
  const isForm = acting && !(acting instanceof Element);
  root.replaceChildren(
    ...[
      head(shown, computed),
      ...shown.get("steps").map((step, i) => stepCard(step, i + 1)),
      ...shown.get("candidates").map((each) => candidateCard(each, isForm ? acting.act : null)),
      tail(shown, computed),
      isForm ? acting.form : acting,
    ].filter(Boolean),
  );
}

async function look() {
  if (busy) return;
  const response = await fetch(`/approvals/${task}/shown`, { credentials: "same-origin" }).catch(() => null);
  if (!response || response.status === 503) return; // the page's own notice says that it is out of date
  if (!response.ok) {
    const why = await response.json().catch(() => ({ error: `the console answered ${response.status}` }));
    if (current || !state.hasChildNodes()) tell(why.error, "wait");
    current = "";
    root.replaceChildren(make("p", {}, make("a", { href: `/tasks/${task}` }, "What became of the task"), " · ", make("a", { href: "/approvals" }, "What else waits")));
    return;
  }
  const text = await response.text();
  if (text === current) return;
  if (current && editing) {
    tell("The plan has changed while you edited it: what you see is not what stands there any more. Load the page again.", "bad");
    for (const button of root.querySelectorAll("button")) button.disabled = true;
    return;
  }
  if (current) tell("This has changed: look again before you sign.", "wait");
  current = text;
  await show(text);
}

document.addEventListener("workmesh-refresh", look);
look();
