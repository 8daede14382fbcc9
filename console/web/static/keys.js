// A person's own key: read from the file of `workmesh keys new`, kept by the browser so that nothing reads it out again.
// The seed never leaves this page (github.com/nats-io/nkeys for its form; RFC 8410 for PKCS #8).

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SEED = 18 << 3;
const USER = 20 << 3;
const PKCS8 = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

export const person = () => document.querySelector('meta[name="workmesh-person"]').content;
export const enrolled = () => document.querySelector('meta[name="workmesh-key"]').content;

function fromBase32(text) {
  const found = [];
  let bits = 0;
  let held = 0;
  for (const letter of text) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) throw new Error("this is no key file: it holds one line that begins with SU");
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      found.push((held >> bits) & 0xff);
      held &= (1 << bits) - 1;
    }
  }
  return Uint8Array.from(found);
}

function toBase32(bytes) {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(held >> bits) & 31];
      held &= (1 << bits) - 1;
    }
  }
  return bits ? text + ALPHABET[(held << (5 - bits)) & 31] : text;
}

// CRC-16/XMODEM, low byte first.
function checksum(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let i = 0; i < 8; i += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return [crc & 0xff, crc >> 8];
}

function seedOf(text) {
  const raw = fromBase32(text.trim());
  if (raw.length !== 36) throw new Error("this is no key file: it holds one line that begins with SU");
  const [low, high] = checksum(raw.subarray(0, 34));
  if (raw[34] !== low || raw[35] !== high) throw new Error("this key is damaged: its checksum is wrong");
  if ((raw[0] & 0xf8) !== SEED || (((raw[0] & 7) << 5) | (raw[1] >> 3)) !== USER)
    throw new Error("this is no key of a person");
  return raw.subarray(2, 34);
}

function publicKey(x) {
  const raw = Uint8Array.from(atob(x.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const body = Uint8Array.from([USER, ...raw]);
  return toBase32([...body, ...checksum(body)]);
}

async function imported(text) {
  if (!globalThis.crypto?.subtle)
    throw new Error("browsers sign only on pages from https or from this machine: open the console by one of these");
  const seed = seedOf(text);
  const der = Uint8Array.from([...PKCS8, ...seed]);
  const readable = await crypto.subtle.importKey("pkcs8", der, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", readable);
  const key = await crypto.subtle.importKey("pkcs8", der, "Ed25519", false, ["sign"]);
  der.fill(0);
  seed.fill(0);
  return { key, publicKey: publicKey(x) };
}

function store(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("workmesh", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys", { keyPath: "id" });
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const transaction = database.transaction("keys", mode);
      const asked = work(transaction.objectStore("keys"));
      transaction.oncomplete = () => {
        database.close();
        resolve(asked.result);
      };
      transaction.onerror = () => {
        database.close();
        reject(transaction.error);
      };
    };
  });
}

const id = () => `${person()} ${enrolled()}`;

// The key of who is signed in, if this browser has it: {key, publicKey}.
export const kept = () => store("readonly", (keys) => keys.get(id()));
export const forget = () => store("readwrite", (keys) => keys.delete(id()));

// Take a key file in; throws with what is wrong.
export async function bring(text) {
  const made = await imported(text);
  if (made.publicKey !== enrolled())
    throw new Error(`this is the key ${made.publicKey}, but ${person()} is enrolled with ${enrolled()}`);
  await store("readwrite", (keys) => keys.put({ id: id(), ...made }));
}
