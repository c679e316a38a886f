// Tables that change in place: what is the same stays, so that focus, selection and scrolling do.
//
// A cell is a part or a list of parts. A part is a text, or an object: {text, as, tone}, {meter, label}, {line, label},
// {time, now}. Every text becomes a text node: names are whatever somebody gave.

import { clock, span } from "./words.js";

const FEW = 25;
const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function sparkline({ line, label }) {
  const [width, height, edge] = [96, 22, 2];
  const least = Math.min(...line);
  const range = Math.max(...line) - least || 1;
  const points = line.map((value, index) => {
    const x = edge + (index * (width - 2 * edge)) / Math.max(1, line.length - 1);
    return `${x.toFixed(1)},${(height - edge - ((value - least) * (height - 2 * edge)) / range).toFixed(1)}`;
  });
  const drawn = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label })) {
    drawn.setAttribute(key, value);
  }
  const stroke = document.createElementNS(SVG, "polyline");
  stroke.setAttribute("points", points.join(" "));
  drawn.append(stroke);
  return drawn;
}

function node(part) {
  if (typeof part === "string") return document.createTextNode(part);
  if ("line" in part) return sparkline(part);
  if ("meter" in part) {
    const bounds = { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0 };
    return element("meter", { ...bounds, value: part.meter, "aria-label": part.label });
  }
  if ("time" in part) {
    const ago = (new Date(part.now) - new Date(part.time)) / 1000;
    const told = ago >= 0 ? `${span(ago)} ago` : `in ${span(-ago)}`;
    return element("time", { datetime: part.time, title: clock(part.time) }, told);
  }
  return element("span", { class: part.as ?? "plain", "data-tone": part.tone ?? "" }, part.text);
}

export class Table {
  // columns: {label, cell, wide}. empty: what is said when there are no rows.
  constructor({ id, title, about, columns, empty }, place) {
    Object.assign(this, { id, columns, empty });
    this.rows = [];
    this.shown = new Map();
    this.all = false;
    this.heading = element("h2", { id: `${id}-title`, tabindex: "-1" }, title);
    this.number = element("span", { class: "number" });
    this.heading.append(" ", this.number);
    this.note = element("p", { class: "note", hidden: "" });
    const labels = columns.map(({ label }) => element("th", { scope: "col", role: "columnheader" }, label));
    this.body = element("tbody", { role: "rowgroup" });
    this.table = element(
      "table", { role: "table", "aria-labelledby": `${id}-title` },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...labels)), this.body,
    );
    this.more = element("button", { type: "button", hidden: "" });
    this.more.addEventListener("click", () => {
      this.all = !this.all;
      this.draw();
    });
    const words = about ? [element("p", { class: "about" }, about)] : [];
    // Reached by keyboard, for it may be wider than the window.
    const frame = { class: "frame", tabindex: "0", role: "group", "aria-labelledby": `${id}-title` };
    this.section = element(
      "section", { id, "aria-labelledby": `${id}-title` },
      this.heading, ...words, element("div", frame, this.table), this.note, this.more,
    );
    place.append(this.section);
  }

  update(rows, { note = "", total = rows.length } = {}) {
    Object.assign(this, { rows, told: note, total });
    this.draw();
  }

  filter(words) {
    this.words = words;
    this.draw();
  }

  draw() {
    const cells = this.rows.map((row) => [row.key, this.columns.map(({ cell }) => [cell(row)].flat().filter(Boolean))]);
    const found = this.words?.length
      ? cells.filter(([, row]) => this.words.every((word) => text(row).includes(word)))
      : cells;
    const most = this.all ? found.length : FEW;
    const kept = found.slice(0, most);
    this.number.textContent = this.words?.length ? `${found.length} of ${this.total}` : `${this.total}`;
    this.sync(kept);
    this.table.hidden = found.length === 0;
    const nothing = this.words?.length && this.rows.length ? "Nothing here fits the filter." : this.empty;
    const notes = [found.length ? "" : nothing, this.told].filter(Boolean).join(" ");
    this.note.hidden = !notes;
    if (this.note.textContent !== notes) this.note.textContent = notes;
    this.more.hidden = found.length <= FEW;
    const label = this.all ? "Show fewer" : `Show all ${found.length}`;
    if (this.more.textContent !== label) this.more.textContent = label;
  }

  sync(rows) {
    const wanted = new Set(rows.map(([key]) => key));
    for (const [key, { line }] of this.shown) {
      if (!wanted.has(key)) {
        line.remove();
        this.shown.delete(key);
      }
    }
    rows.forEach(([key, cells], place) => {
      let known = this.shown.get(key);
      if (!known) {
        const made = this.columns.map(({ label, wide }) =>
          element("td", { role: "cell", "data-label": label, ...(wide ? { class: "wide" } : {}) }, element("div")));
        known = { line: element("tr", { role: "row" }, ...made), made, drawn: made.map(() => "") };
        this.shown.set(key, known);
      }
      cells.forEach((parts, index) => {
        const drawn = JSON.stringify(parts);
        if (known.drawn[index] !== drawn) {
          known.drawn[index] = drawn;
          known.made[index].firstChild.replaceChildren(...parts.flatMap((part, at) => (at ? [" ", node(part)] : [node(part)])));
        }
      });
      if (this.body.children[place] !== known.line) this.body.insertBefore(known.line, this.body.children[place]);
    });
  }
}

function text(cells) {
  return cells.flat().map((part) => (typeof part === "string" ? part : part.text ?? "")).join(" ").toLowerCase();
}
