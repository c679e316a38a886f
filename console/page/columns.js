// Every table: its columns, and how a row of the state is told in them.

import { count, size, span } from "./words.js";

const strong = (text) => ({ text, as: "strong" });
const quiet = (text) => (text ? { text, as: "quiet" } : "");
const code = (text) => ({ text, as: "code" });
const badge = (text, tone) => ({ text, as: "badge", tone });

const LEVELS = { fault: "bad", warning: "warn", note: "info" };
const WAYS = {
  "this host": ["this host", "info"],
  good: ["reached", "good"],
  silent: ["does not answer", "bad"],
  checksums: ["wrong checksums", "warn"],
  narrow: ["large packets are lost", "bad"],
  "": ["not tried yet", "quiet"],
};
const LOUD = { failed: "bad", "drift-seen": "warn", "drift-repaired": "good", "events-lost": "warn" };

function reach({ reach: who, from, address }) {
  if (who === "anybody") return badge("anybody who reaches this host", "warn");
  if (who === "host") return badge("this host only", "good");
  if (who === "one-address") return badge(`who reaches ${address}`, "info");
  return from.map((network) => badge(network === "localhost" ? "this host" : network, "good"));
}

function growth({ line, grown, grown_over_s: over }) {
  if (line.length < 2) return quiet("–");
  const told = grown ? `${grown > 0 ? "+" : ""}${size(grown)} in ${span(over)}` : quiet(`the same for ${span(over)}`);
  return [{ line, label: `use over ${span(over)}` }, told];
}

function use({ used, size: most, share, name }) {
  if (share === null) return most ? quiet(`${size(most)}, not mounted`) : quiet("a directory of the host");
  const percent = Math.round(share * 100);
  return [{ meter: share, label: `${name}: used` }, strong(`${percent} %`), quiet(`${size(used)} of ${size(most)}`)];
}

function health({ health: state, problem, underway }) {
  if (state !== "ok") return [badge("problem", "bad"), problem];
  return underway ? [badge("busy", "info"), underway] : badge("ok", "good");
}

export function tables(now) {
  const when = (time) => (time ? { time, now: now() } : "");
  return [
    {
      id: "health", title: "What is wrong", empty: "Nothing is wrong.",
      about: "Records, kernel and engines held against each other by pynet doctor and pyvol doctor; --fix is an option of these.",
      columns: [
        { label: "Level", cell: ({ level, by }) => [badge(level, LEVELS[level]), quiet(by)] },
        { label: "What", wide: true, cell: ({ what }) => strong(what) },
        { label: "What helps", wide: true, cell: ({ cure }) => cure },
      ],
    },
    {
      id: "hosts", title: "Hosts", empty: "",
      columns: [
        { label: "Host", cell: ({ name, here }) => (here ? strong(name) : code(name)) },
        { label: "The way there", cell: ({ state }) => badge(...WAYS[state]) },
        { label: "Overlays", wide: true, cell: ({ networks, here }) => networks.join(", ") || quiet(here ? "" : "–") },
      ],
    },
    {
      id: "networks", title: "Networks", empty: "There are no networks of pynet.",
      columns: [
        { label: "Network", cell: ({ name, id }) => [strong(name), name === id ? "" : quiet(id)] },
        {
          label: "Type",
          cell: ({ type, internal, alone }) => [
            type, internal ? badge("internal", "info") : "", alone ? badge("on this host alone", "warn") : "",
          ],
        },
        { label: "Subnets", cell: ({ subnets }) => subnets.map(code) },
        {
          label: "Endpoints",
          cell: ({ endpoints, elsewhere }) => [strong(`${endpoints}`), elsewhere ? quiet(`+ ${elsewhere} elsewhere`) : ""],
        },
        { label: "MTU", cell: ({ mtu }) => `${mtu}` },
        { label: "Bridge", cell: ({ bridge }) => code(bridge) },
        { label: "Options", wide: true, cell: ({ options }) => (options.length ? options.map(code) : quiet("–")) },
      ],
    },
    {
      id: "endpoints", title: "Endpoints", empty: "No container is on a network of pynet.",
      columns: [
        { label: "Container", cell: ({ container }) => strong(container) },
        { label: "Network", cell: ({ network }) => network },
        { label: "Addresses", cell: ({ addresses }) => addresses.map(code) },
        { label: "Ports", cell: ({ ports }) => (ports ? `${ports} published` : quiet("–")) },
        { label: "MAC", cell: ({ mac }) => code(mac) },
        { label: "Link", cell: ({ link, joined }) => [code(link), joined ? "" : quiet("not joined")] },
      ],
    },
    {
      id: "ports", title: "Published ports", empty: "No port is published.",
      columns: [
        { label: "On this host", cell: ({ address, host_ports: ports, protocol }) => [strong(`${ports}/${protocol}`), quiet(`at ${address}`)] },
        { label: "Leads to", cell: ({ container, ports, network }) => [strong(container), `port ${ports}`, quiet(`on ${network}`)] },
        { label: "Who can reach it", wide: true, cell: reach },
        { label: "Until", cell: ({ until }) => when(until) || quiet("the container ends") },
      ],
    },
    {
      id: "flows", title: "Flows", empty: "No connection of a container is tracked.",
      about: "Connections of containers through this host. Those between containers of one bridge do not pass through it.",
      columns: [
        { label: "From", cell: ({ source, source_name: name }) => [name ? strong(name) : "", code(source)] },
        {
          label: "To",
          cell: ({ destination, to, to_name: name }) => [
            code(destination), to ? "→" : "", name ? strong(name) : "", to ? code(to) : "",
          ],
        },
        { label: "Protocol", cell: ({ protocol }) => protocol },
        { label: "State", cell: ({ state }) => badge(state, state === "established" || state === "answered" ? "good" : "quiet") },
        { label: "Network", cell: ({ network }) => network },
        { label: "Carried", cell: ({ bytes }) => (bytes === null ? quiet("not counted") : size(bytes)) },
      ],
    },
    {
      id: "volumes", title: "Volumes", empty: "There are no volumes of pyvol.",
      columns: [
        { label: "Volume", cell: ({ name, fs, backend, flags }) => [strong(name), quiet(fs || backend), ...flags.map((flag) => badge(flag, "info"))] },
        { label: "Use", cell: use },
        { label: "Growth", cell: growth },
        { label: "On disk", cell: ({ allocated, pool }) => [size(allocated), pool ? quiet(`in ${pool}`) : ""] },
        {
          label: "Snapshots",
          cell: ({ snapshots, latest, schedule }) => [
            snapshots ? strong(`${snapshots}`) : quiet("–"), when(latest), quiet(schedule),
          ],
        },
        { label: "Mounted", cell: ({ mounts }) => (mounts ? `${mounts} ×` : quiet("–")) },
        { label: "Health", wide: true, cell: (row) => [health(row), row.last_error ? quiet(`last refused: ${row.last_error}`) : ""].flat() },
      ],
    },
    {
      id: "snapshots", title: "Snapshots and pools", empty: "There are no snapshots, and no pools.",
      columns: [
        { label: "Name", cell: ({ name }) => strong(name) },
        { label: "Kind", cell: ({ volumes }) => (volumes === undefined ? "snapshot" : `pool of ${count(volumes, "volume", "volumes")}`) },
        { label: "Size", cell: (row) => (row.share === undefined ? size(row.size) : use(row)) },
        { label: "Taken", cell: ({ at }) => when(at) || quiet("–") },
        { label: "Health", cell: (row) => (row.health ? health(row) : quiet("–")) },
      ],
    },
    {
      id: "events", title: "Events", empty: "Nothing has happened since the plugins were started.",
      columns: [
        { label: "When", cell: ({ at }) => when(at) },
        { label: "What", cell: ({ kind, plugin }) => [badge(kind, LOUD[kind] ?? "quiet"), quiet(plugin)] },
        { label: "To", cell: ({ subject }) => strong(subject) },
        { label: "Details", wide: true, cell: ({ text }) => text },
      ],
    },
  ];
}

export { count, size };
