"use strict";
const store = JSON.parse(document.getElementById("runs").textContent);

// A column is sorted by its values where it has some, and by its text otherwise. Empty cells come last.
for (const head of document.querySelectorAll("thead th")) {
  head.querySelector("button").addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    const empty = (value) => value === "–" || value === "";
    const order = (a, b) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const compared = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      return descending ? -compared : compared;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort((a, b) => order(a[0], b[0]));
    body.append(...rows.map(([, row]) => row));
  });
}

for (const input of document.querySelectorAll(".filter input")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of input.closest(".table").querySelector("tbody").rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function shape(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

// A line of steps and values, each of which shows its number under the pointer.
function chart(points, parent) {
  const svg = shape("svg", { viewBox: "0 0 200 60", preserveAspectRatio: "none", role: "img" }, parent);
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const scale = (values, from, to) => {
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    return (value) => from + ((value - low) / span) * (to - from);
  };
  const x = scale(xs, 4, 196), y = scale(ys, 55, 5);
  shape("path", { d: "M" + points.map((point) => `${x(point[0])} ${y(point[1])}`).join("L") }, svg);
  const width = 192 / points.length;
  for (const [step, value] of points) {
    const target = shape("rect", { x: x(step) - width / 2, y: 0, width, height: 60, fill: "transparent" }, svg);
    shape("title", {}, target).textContent = `step ${step}: ${value}`;
  }
}

const dialog = document.getElementById("run");

function show(id) {
  const run = store.runs[id];
  if (!run) return;
  const content = dialog.querySelector(".content");
  content.replaceChildren();
  element("h2", `Run ${id}`, content);
  const facts = element("tbody", undefined, element("table", undefined, content));
  for (const [name, value] of run.facts) {
    const row = element("tr", undefined, facts);
    element("td", name, row);
    element("td", value, row);
  }
  const metrics = Object.entries(run.history);
  if (metrics.length) {
    element("h3", "History", content);
    const grid = element("div", undefined, content);
    grid.className = "history";
    for (const [metric, points] of metrics) {
      if (points.length < 2) continue;
      const cell = element("div", undefined, grid);
      element("div", `${metric}: ${points[points.length - 1][1].toPrecision(5)} (last value)`, cell);
      chart(points, cell);
    }
  }
  element("h3", "Manifest", content);
  element("pre", store.texts[run.manifest], content);
  element("h3", "Search space", content);
  element("pre", store.texts[run.space], content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function follow() {
  const match = /^#run-(-?\d+)$/.exec(location.hash);
  if (match) show(match[1]);
}

// The address names the run, so that it can be linked to. A second click on a run changes no address.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#run-']");
  if (link) show(link.hash.slice("#run-".length));
});
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", follow);
follow();
