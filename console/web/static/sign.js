// DSSE envelopes made here: what is signed is what was shown, to the byte (mesh/signing.py).

import { kept } from "/static/keys.js";

export const TYPES = {
  statement: "application/vnd.workmesh.statement+json",
  stage: "application/vnd.workmesh.stage+json",
  learned: "application/vnd.workmesh.learned+json",
  memory: "application/vnd.workmesh.memory+json",
  control: "application/vnd.workmesh.control+json",
};
const LASTS_MS = { memory: 60_000 };
const LASTS_ELSE_MS = 300_000;

const utf8 = new TextEncoder();
const meta = (name) => document.querySelector(`meta[name="workmesh-${name}"]`).content;
// The clock of the server: that of this machine may be wrong, and a word says when it was signed.
const ahead = Date.parse(meta("now")) - Date.now();

export const now = () => new Date(Date.now() + ahead);
export const expiry = (kind) => new Date(now().getTime() + (LASTS_MS[kind] ?? LASTS_ELSE_MS));

export function nonce() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function base64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

// The envelope over the payload's text. Throws when this browser has no key of who is signed in.
export async function sign(kind, text) {
  const own = await kept();
  if (!own) throw new Error("this browser has not your key yet: bring it under “Your key”, at the top of the page");
  const type = TYPES[kind];
  const payload = utf8.encode(text);
  const head = utf8.encode(`DSSEv1 ${type.length} ${type} ${payload.length} `);
  const signed = new Uint8Array(head.length + payload.length);
  signed.set(head);
  signed.set(payload, head.length);
  const signature = new Uint8Array(await crypto.subtle.sign("Ed25519", own.key, signed));
  return {
    payload: base64(payload),
    payloadType: type,
    signatures: [{ keyid: own.publicKey, sig: base64(signature) }],
  };
}

// Give it to the server; its answer. Throws with the reason of a refusal.
export async function give(where, envelope) {
  const response = await fetch(`/signed/${where}`, {
    method: "POST",
    credentials: "same-origin",
    headers: { "content-type": "application/json", "x-csrf-token": meta("csrf") },
    body: JSON.stringify({ signed: envelope }),
  }).catch(() => {
    throw new Error("the console cannot be reached: try again in a moment");
  });
  const answer = await response.json().catch(() => ({ error: `the console answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}
