"use strict";
// The live page: follows the log, opens what an address names, and keys. htmx asks for all that is shown.
const MOST = 1000; // events that stay on a page that follows
const byId = (name) => document.getElementById(name);

// Following: one stream for a page that is seen. A hidden page asks for nothing, and goes on where it stopped.
let source = null, followed = null, reached = null, ended = false;

function follow() {
  const place = document.querySelector("[data-changes]");
  const wanted = place && !document.hidden ? place.dataset.changes : null;
  if (place && place.dataset.changes !== followed) [followed, reached, ended] = [place.dataset.changes, null, false];
  if (source && (wanted === null || source.place !== wanted || ended)) {
    source.close();
    source = null;
  }
  if (wanted !== null && !source && !ended) listen(wanted);
  if (!place) say("");
}

function listen(wanted) {
  const address = new URL(wanted, location.href);
  if (reached !== null) address.searchParams.set("after", reached);
  source = new EventSource(address);
  source.place = wanted;
  source.onopen = () => say("live");
  source.onerror = () => say(source?.readyState === EventSource.CLOSED ? "not live: reload the page" : "waiting for the server …");
  source.addEventListener("events", (message) => {
    reached = message.lastEventId;
    added(JSON.parse(message.data));
  });
  source.addEventListener("changed", changed);
  source.addEventListener("ended", () => {
    ended = true;
    changed();
    follow();
    say("ended");
  });
}

function added(html) {
  const events = byId("events");
  if (!events || !html) return;
  const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 80;
  events.querySelector(".none")?.remove();
  events.insertAdjacentHTML("beforeend", html);
  while (events.children.length > MOST) events.firstElementChild.remove();
  htmx.process(events);
  changed();
  if (atEnd) scrollTo(0, document.body.scrollHeight);
}

// What is shown besides the transcript is asked for again after a change, once a second at most, and not while somebody
// writes a reason there.
let due = null;
function changed() {
  due ??= setTimeout(() => {
    due = null;
    if (document.activeElement.closest("#now textarea")) return changed();
    document.body.dispatchEvent(new Event("ledger-changed"));
  }, 1000);
}

const say = (words) => { byId("live").textContent = words; };

// Addresses: #e12 is an event, here or on another page.
function open_named() {
  const number = /^#e(\d+)$/.exec(location.hash)?.[1];
  const event = number && byId("e" + number);
  if (!event) return;
  document.querySelector(".here")?.classList.remove("here");
  event.classList.add("here");
  event.open = true;
  event.scrollIntoView();
}

document.addEventListener("click", (click) => {
  const number = /^#e(\d+)$/.exec(click.target.closest("a")?.getAttribute("href") ?? "")?.[1];
  if (!number || byId("e" + number)) return;
  click.preventDefault();
  location.href = `/event/${number}/there`;
});
document.addEventListener("click", (click) => {
  const round = /^#(R\d+)$/.exec(click.target.closest("a")?.getAttribute("href") ?? "")?.[1];
  const there = round && byId(round)?.querySelector("a");
  if (!there) return;
  click.preventDefault();
  location.href = there.href;
});

// Keys.
const steps = () => [...document.querySelectorAll(".event > summary, a.step")];

function step(by) {
  const all = steps(), now = all.findIndex((each) => each.contains(document.activeElement));
  const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by];
  if (next) next.focus();
  else document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]")?.focus();
}

function round(by) {
  const all = [...document.querySelectorAll(".event[data-round]")];
  if (!all.length) return document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]")?.click();
  let place = all.findIndex((each) => each.contains(document.activeElement));
  if (place < 0) place = by > 0 ? 0 : all.length - 1;
  const from = all[place].dataset.round;
  while (all[place] && (all[place].dataset.round === from || !all[place].dataset.round)) place += by;
  if (!all[place]) return document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]")?.focus();
  if (by < 0) while (all[place - 1]?.dataset.round === all[place].dataset.round) place -= 1;
  const line = all[place].querySelector("summary");
  line.focus();
  line.scrollIntoView({ block: "center" });
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  "]": () => round(1),
  "[": () => round(-1),
  "/": () => (byId("wanted") ?? document.querySelector("nav .search input")).focus(),
  "?": () => byId("keys").showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
byId("keys-button").addEventListener("click", KEYS["?"]);

document.addEventListener("visibilitychange", follow);
document.addEventListener("htmx:afterSettle", (event) => {
  players(event.detail.elt);
  follow();
});
document.addEventListener("htmx:sendError", (event) => { event.detail.target.textContent = "The server does not answer."; });
addEventListener("hashchange", open_named);
addEventListener("pagehide", () => source?.close());
open_named();
follow();
