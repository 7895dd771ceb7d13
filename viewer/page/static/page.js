"use strict";
// The transcript: parts are unpacked when they are opened; filters unpack all.
const parts = [...document.querySelectorAll("details.part")];
const byId = (name) => document.getElementById(name);

// Every line of packed HTML is stored once: a part says how far each of its lines is from the one before.
const lines = gunzip(byId("lines").textContent).then((text) => text.split("\x1e"));
async function html(stored) {
  const all = await lines, steps = await gunzip(stored);
  let place = 0;
  return steps ? steps.split(" ").map((step) => all[place += Number(step)]).join("") : "";
}

async function unpack(part) {
  const stored = part.querySelector("script");
  if (!stored) return part.unpacked;
  stored.remove();
  part.unpacked = (async () => {
    part.querySelector(".events").innerHTML = await html(stored.textContent);
  })();
  return part.unpacked;
}

async function follow() {
  const found = /^#e(\d+)$/.exec(location.hash);
  if (!found) return;
  const number = Number(found[1]);
  const part = parts.find((each) => Number(each.dataset.first) <= number && number <= Number(each.dataset.last));
  if (!part) return;
  await unpack(part);
  part.open = true;
  const event = byId("e" + number);
  if (!event) return;
  document.querySelector(".here")?.classList.remove("here");
  event.classList.add("here");
  event.hidden = false;
  if (event.tagName === "DETAILS") event.open = true;
  event.scrollIntoView();
}

let latest = 0;
async function filter() {
  const mine = ++latest;
  const text = byId("wanted").value.trim().toLowerCase();
  const agent = byId("agent").value, kind = byId("kind").value;
  const any = Boolean(text || agent || kind);
  if (any) await Promise.all(parts.map(unpack));
  if (mine !== latest) return;
  let all = 0;
  for (const part of parts) {
    let here = 0;
    for (const event of part.querySelectorAll(".event")) {
      const fits = (!agent || event.dataset.agent === agent) && (!kind || event.dataset.kind === kind)
        && (!text || event.textContent.toLowerCase().includes(text));
      event.hidden = !fits;
      here += fits;
    }
    part.hidden = any && !here;
    if (any && here) part.open = true;
    all += here;
  }
  byId("found").textContent = any ? `${all} event${all === 1 ? "" : "s"}` : "";
}

async function openAll(open) {
  await Promise.all(parts.map(unpack));
  for (const part of parts) {
    part.open = open;
    for (const event of part.querySelectorAll("details.event")) event.open = open;
  }
}

for (const rest of document.querySelectorAll(".rest")) {
  html(rest.nextElementSibling.textContent).then((text) => { rest.innerHTML = text; });
}
for (const part of parts) part.addEventListener("toggle", () => part.open && unpack(part));
byId("wanted").addEventListener("input", filter);
byId("agent").addEventListener("change", filter);
byId("kind").addEventListener("change", filter);
byId("open").addEventListener("click", () => openAll(true));
byId("close").addEventListener("click", () => openAll(false));
window.addEventListener("hashchange", follow);
follow();
