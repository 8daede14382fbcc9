// Forms whose word is signed: what is signed is shown to the letter first. And the page of one's own key.

import { canonical, parse, pretty } from "/static/canonical.js";
import { bring, enrolled, forget, kept, person } from "/static/keys.js";
import { expiry, give, nonce, now, sign } from "/static/sign.js";

function payloadOf(form) {
  const payload = parse(form.dataset.payload);
  for (const field of form.querySelectorAll("[data-field]")) payload.set(field.dataset.field, field.value.trim());
  const reason = form.querySelector("[data-reason]")?.value.trim() ?? "";
  (payload.has("request") ? payload.get("request") : payload).set("reason", reason);
  if (payload.has("nonce")) payload.set("nonce", nonce());
  if (payload.has("expires_at")) payload.set("expires_at", expiry(form.dataset.type).toISOString());
  payload.set("at", now().toISOString());
  return payload;
}

// Whether the person wants to sign this, having seen it.
function asked(what, payload) {
  const dialog = document.getElementById("signing");
  document.getElementById("signing-what").textContent = what;
  document.getElementById("signing-payload").textContent = pretty(payload);
  return new Promise((resolve) => {
    const yes = document.getElementById("signing-yes");
    const no = document.getElementById("signing-no");
    const end = (answer) => {
      yes.onclick = no.onclick = dialog.onclose = null;
      if (dialog.open) dialog.close();
      resolve(answer);
    };
    yes.onclick = () => end(true);
    no.onclick = () => end(false);
    dialog.onclose = () => end(false);
    dialog.showModal();
    yes.focus();
  });
}

function tell(place, text, tone) {
  place.textContent = text;
  place.className = `answer notice ${tone}`;
}

async function submitted(form) {
  const place = form.querySelector(".answer");
  const button = form.querySelector("button");
  const payload = payloadOf(form);
  if (!(await asked(form.dataset.what, payload))) return;
  button.disabled = true;
  try {
    const answer = await give(form.dataset.sign, await sign(form.dataset.type, canonical(payload)));
    tell(place, answer.message, "good");
    document.dispatchEvent(new Event("workmesh-changed"));
  } catch (error) {
    tell(place, error.message, "bad");
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form.sign")) return;
  event.preventDefault();
  submitted(event.target);
});

async function showKey() {
  const own = await kept().catch(() => undefined);
  const link = document.querySelector("[data-key-state]");
  if (link) {
    link.textContent = own ? "Key ready" : "Bring your key";
    link.className = own ? "good" : "wait";
  }
  const place = document.getElementById("key-now");
  if (!place) return;
  place.textContent = own ? `The key of ${person()} is here, and can only sign: ${own.publicKey}` : "There is no key of yours in this browser.";
  document.getElementById("key-forget").hidden = !own;
}

const file = document.getElementById("key-file");
if (file) {
  const problem = document.getElementById("key-problem");
  file.addEventListener("change", async () => {
    problem.hidden = true;
    try {
      if (file.files.length) await bring(await file.files[0].text());
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    file.value = "";
    await showKey();
  });
  document.getElementById("key-forget").addEventListener("click", async () => {
    await forget();
    await showKey();
  });
}
if (enrolled()) showKey();
