// JSON as Workmesh digests it: numbers keep their very text, keys are sorted, no white space (mesh/canonical.py).

export class Num {
  constructor(text) {
    this.text = text;
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;
const DEEPEST = 200;

// The value of a JSON text: objects as Map, numbers as Num. Throws SyntaxError.
export function parse(text) {
  let at = 0;
  const fail = (what) => {
    throw new SyntaxError(`${what} at character ${at}`);
  };
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) fail("not JSON");
    at = pattern.lastIndex;
    return found[0];
  };
  const word = (name, value) => {
    if (!text.startsWith(name, at)) fail("not JSON");
    at += name.length;
    return value;
  };
  const list = (close, one) => {
    at += 1;
    take(SPACE);
    if (text[at] === close) {
      at += 1;
      return;
    }
    for (;;) {
      one();
      take(SPACE);
      if (text[at] === ",") at += 1;
      else if (text[at] === close) {
        at += 1;
        return;
      } else fail("not JSON");
    }
  };
  const value = (depth) => {
    if (depth > DEEPEST) fail("nested too deep");
    take(SPACE);
    const first = text[at];
    if (first === "{") {
      const found = new Map();
      list("}", () => {
        take(SPACE);
        const key = JSON.parse(take(STRING));
        if (found.has(key)) fail(`the key ${key} twice`);
        take(SPACE);
        if (text[at] !== ":") fail("not JSON");
        at += 1;
        found.set(key, value(depth + 1));
      });
      return found;
    }
    if (first === "[") {
      const found = [];
      list("]", () => found.push(value(depth + 1)));
      return found;
    }
    if (first === '"') return JSON.parse(take(STRING));
    if (first === "t") return word("true", true);
    if (first === "f") return word("false", false);
    if (first === "n") return word("null", null);
    return new Num(take(NUMBER));
  };
  const found = value(0);
  take(SPACE);
  if (at !== text.length) fail("more than one value");
  return found;
}

const utf8 = new TextEncoder();

function byBytes(a, b) {
  const x = utf8.encode(a);
  const y = utf8.encode(b);
  for (let i = 0; i < Math.min(x.length, y.length); i += 1) if (x[i] !== y[i]) return x[i] - y[i];
  return x.length - y.length;
}

// The canonical text of a parsed value (or of plain objects without numbers that are not whole).
export function canonical(value, indent = "", step = "") {
  if (value instanceof Num) return value.text;
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string")
    return JSON.stringify(value);
  const open = step ? `\n${indent}${step}` : "";
  const close = step ? `\n${indent}` : "";
  const colon = step ? ": " : ":";
  const inner = (each) => canonical(each, indent + step, step);
  if (Array.isArray(value)) {
    if (!value.length) return "[]";
    return `[${value.map((each) => open + inner(each)).join(",")}${close}]`;
  }
  const map = value instanceof Map ? value : new Map(Object.entries(value));
  if (!map.size) return "{}";
  const keys = [...map.keys()].sort(byBytes);
  return `{${keys.map((key) => `${open}${JSON.stringify(key)}${colon}${inner(map.get(key))}`).join(",")}${close}}`;
}

export const pretty = (value) => canonical(value, "", "  ");

export async function digest(value) {
  const hash = await crypto.subtle.digest("SHA-256", utf8.encode(canonical(value)));
  return `sha256:${[...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
