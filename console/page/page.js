// Asks for the state every two seconds while somebody looks, and shows it.

import { count, size, tables } from "./columns.js";
import { element, Table } from "./tables.js";
import { span } from "./words.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 10000;
const LATE_S = 15;

const at = (id) => document.getElementById(id);
let state = null;
let seenAt = null;

const shown = Object.fromEntries(
  tables(() => state.at).map((definition) => [definition.id, new Table(definition, at("tables"))]),
);

for (const [index, table] of Object.values(shown).entries()) {
  const link = element("a", { href: `#${table.id}` }, table.heading.firstChild.textContent);
  link.prepend(element("kbd", { "aria-hidden": "true" }, `${index + 1}`));
  at("sections").append(element("li", {}, link));
}

function tell(id, text, tone) {
  const place = at(id);
  if (place.textContent !== text) place.textContent = text;
  if (place.dataset.tone !== tone) place.dataset.tone = tone;
}

function troubles({ pynet, pyvol, doctor, names_error: names }) {
  const late = ({ at: seen }) => (seen ? `shown is what was ${span((new Date(state.at) - new Date(seen)) / 1000)} ago` : "");
  const parts = [
    ...Object.entries({ pynet, pyvol }).filter(([, part]) => part.error)
      .map(([name, part]) => [`${name}: ${part.error}`, late(part)]),
    ...Object.entries(doctor.looked).filter(([name, part]) => part.error && !{ pynet, pyvol }[name].error && part.error !== "no answer yet")
      .map(([name, part]) => [`${name} doctor: ${part.error}`]),
    ...(names ? [[`names: ${names}`]] : []),
  ];
  const told = parts.map((part) => part.filter(Boolean).join("; "));
  if (at("troubles").dataset.told === JSON.stringify(told)) return;
  at("troubles").dataset.told = JSON.stringify(told);
  at("troubles").replaceChildren(...told.map((text) => element("p", { class: "trouble" }, text)));
}

function verdict({ doctor }) {
  const number = (level) => doctor.found.filter((finding) => finding.level === level).length;
  const [faults, warnings, notes] = ["fault", "warning", "note"].map(number);
  const looked = Object.values(doctor.looked).some(({ at: when }) => when);
  if (faults) return [count(faults, "fault", "faults"), warnings ? count(warnings, "warning", "warnings") : "", "bad"];
  if (warnings) return [count(warnings, "warning", "warnings"), notes ? count(notes, "note", "notes") : "", "warn"];
  if (!looked) return ["…", "not looked yet", "quiet"];
  return ["all well", notes ? count(notes, "note", "notes") : "", "good"];
}

function tiles(now) {
  const [net, vol, disk] = [now.pynet.counts, now.pyvol.counts, now.pyvol.disk];
  const ill = (now.pyvol.volumes ?? []).filter(({ health }) => health !== "ok").length;
  const tight = disk && disk.growth > disk.available;
  const wanted = [
    ["health", "Health", ...verdict(now)],
    ["networks", "Networks", net?.networks ?? "–", net ? count(net.endpoints, "endpoint", "endpoints") : "", ""],
    ["ports", "Published ports", net?.ports ?? "–", net?.open ? `${net.open} open to anybody` : "none open to anybody", net?.open ? "warn" : ""],
    ["flows", "Flows", net?.flows ?? "–", "of containers", ""],
    ["volumes", "Volumes", vol?.volumes ?? "–", ill ? count(ill, "problem", "problems") : count(vol?.snapshots ?? 0, "snapshot", "snapshots"), ill ? "bad" : ""],
    ["volumes", "Disk available", disk ? size(disk.available) : "–", disk ? `volumes may grow by ${size(disk.growth)}` : "", tight ? "warn" : ""],
  ];
  if (!at("tiles").children.length) {
    for (const [to] of wanted) {
      const link = element("a", { href: `#${to}` }, element("span", { class: "name" }), element("strong"), element("span", { class: "quiet" }));
      at("tiles").append(element("li", {}, link));
    }
  }
  wanted.forEach(([, name, value, more, tone], index) => {
    const tile = at("tiles").children[index].firstChild;
    tile.dataset.tone = tone;
    [name, `${value}`, more].forEach((text, place) => {
      if (tile.children[place].textContent !== text) tile.children[place].textContent = text;
    });
  });
}

function draw() {
  const { pynet, pyvol, doctor, events } = state;
  if (at("host").textContent !== state.host) at("host").textContent = state.host;
  document.title = `${state.host} – pynet console`;
  troubles(state);
  tiles(state);
  const keyed = (rows, key) => (rows ?? []).map((row) => ({ ...row, key: key(row) }));
  const looked = Object.entries(doctor.looked).filter(([, { at: when }]) => when)
    .map(([name, { at: when }]) => `${name} ${span((new Date(state.at) - new Date(when)) / 1000)} ago`);
  const unread = looked.length ? `Looked: ${looked.join(", ")}.` : "The doctors have not looked yet.";
  shown.health.empty = looked.length ? "Nothing is wrong." : "";
  shown.health.update(keyed(doctor.found, ({ by, what }) => `${by} ${what}`), { note: unread });
  shown.hosts.update(keyed(pynet.hosts, ({ name }) => name), {
    note: pynet.version ? `pynet ${pynet.version}, firewall: ${pynet.firewall}.` : "",
  });
  const { counts = {} } = pynet;
  shown.networks.update(pynet.networks ?? [], { total: counts.networks ?? 0 });
  shown.endpoints.update(pynet.endpoints ?? [], { total: counts.endpoints ?? 0 });
  shown.ports.update(pynet.ports ?? [], { total: counts.ports ?? 0 });
  const cut = pynet.flows_are_whole === false ? "This host tracks more connections than were looked at." : "";
  shown.flows.update(pynet.flows ?? [], { total: counts.flows ?? 0, note: cut });
  shown.volumes.update(pyvol.volumes ?? [], { total: pyvol.counts?.volumes ?? 0 });
  const pools = keyed(pyvol.pools, ({ name }) => `pool ${name}`);
  shown.snapshots.update([...pools, ...(pyvol.snapshots ?? [])]);
  shown.events.update(events);
}

function liveness() {
  const silent = seenAt === null ? null : (performance.now() - seenAt) / 1000;
  if (silent !== null && silent < LATE_S) tell("live", "live", "good");
  else tell("live", silent === null ? "connecting" : "no answer: is pynet console still running?", silent === null ? "quiet" : "bad");
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch("api/state", { signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 403) tell("troubles", await answer.text(), "");
      if (answer.ok) {
        state = await answer.json();
        seenAt = performance.now();
        draw();
      }
    } catch (error) {
      // Shown as not live; the next one may get through.
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    }
    liveness();
  }
  setTimeout(look, EVERY_MS);
}

at("filter").addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (state) for (const table of Object.values(shown)) table.filter(words);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "Escape" && typing) {
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    event.target.blur();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const headings = Object.values(shown).map(({ heading }) => heading);
  const target = event.key === "/" ? at("filter") : event.key === "0" ? at("main") : headings[Number(event.key) - 1];
  if (target) {
    event.preventDefault();
    target.focus({ preventScroll: true });
    if (event.key === "0") window.scrollTo(0, 0);
    else if (event.key !== "/") target.scrollIntoView({ block: "start" });
  }
});

look();
