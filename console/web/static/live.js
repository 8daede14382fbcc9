// Keeps a page true: told that something changed, it reads itself anew and puts the changed parts in place.

const topics = document.body.dataset.live ?? "";
const offline = document.getElementById("offline");
const LATER_MS = 1000;
const AGAIN_MS = 3000;
let source = null;
let timer = 0;
let reading = false;
let again = false;

function isInUse(part) {
  const focused = document.activeElement;
  return part.contains(focused) && focused.matches("input, select, textarea") ? true : Boolean(part.querySelector("form.sign :disabled"));
}

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = fresh.getElementById(part.id);
    if (!other || other.innerHTML === part.innerHTML || isInUse(part)) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const open = [...part.querySelectorAll("details")].map((each) => each.open);
    const filled = [...part.querySelectorAll("input, select")].map((each) => [each.id, each.value]);
    const answers = [...part.querySelectorAll(".answer")].map((each) => [each.textContent, each.className]);
    part.replaceChildren(...[...other.childNodes].map((each) => document.importNode(each, true)));
    part.querySelectorAll("details").forEach((each, i) => (each.open = open[i] ?? each.open));
    for (const [id, value] of filled) if (id && document.getElementById(id)) document.getElementById(id).value = value;
    part.querySelectorAll(".answer").forEach((each, i) => answers[i]?.[0] && each.after(each.cloneNode()));
    if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

// XMLHttpRequest makes a document of what comes, in which no script runs.
function read() {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname + location.search);
    request.responseType = "document";
    request.onloadend = () => resolve(request);
    request.send();
  });
}

async function refresh() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  const request = await read();
  reading = false;
  if (request.responseURL && new URL(request.responseURL).pathname === "/signin") location.assign("/signin");
  else if (request.status === 200 && request.response) {
    swap(request.response);
    offline.hidden = true;
  } else {
    offline.hidden = false;
    setTimeout(later, AGAIN_MS);
  }
  if (again) {
    again = false;
    later();
  }
}

function later() {
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    refresh();
    document.dispatchEvent(new Event("workmesh-refresh"));
  }, LATER_MS * (0.2 + Math.random() * 0.6));
}

function open() {
  source = new EventSource(`/live?topics=${encodeURIComponent(topics)}`);
  let first = true;
  source.addEventListener("hello", (event) => {
    if (!first || !offline.hidden) later();
    first = false;
    offline.hidden = JSON.parse(event.data).bus;
  });
  source.addEventListener("change", (event) => {
    const told = JSON.parse(event.data);
    if (told.bus) later();
    else offline.hidden = false;
  });
  source.addEventListener("error", () => {
    offline.hidden = false;
    if (source.readyState === EventSource.CLOSED) {
      close();
      setTimeout(() => document.hidden || source || (open(), later()), AGAIN_MS);
    }
  });
}

function close() {
  source?.close();
  source = null;
}

if (topics) {
  open();
  // A page that nobody looks at needs nothing: browsers keep few connections to one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source) {
      open();
      later();
    }
  });
  document.addEventListener("workmesh-changed", later);
}
