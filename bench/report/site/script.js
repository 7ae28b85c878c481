"use strict";
// The page's tables and pictures are in its HTML. This script filters and sorts them, and shows details.
// Texts of the data reach the page only as text nodes and attributes, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows.map((values) => Object.fromEntries(data.columns.map((name, i) => [name, values[i]])));
for (const row of rows) {
  const [place, ...values] = row.metrics;
  row.metrics = Object.fromEntries(data.metric_names[place].map((name, i) => [name, values[i]]));
}
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const byName = new Map();
for (const control of all("input, select")) byName.set(control.name, [...(byName.get(control.name) ?? []), control]);
const named = (name) => byName.get(name) ?? [];
document.documentElement.classList.add("script");

/** An element with attributes and children; strings become text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A property that an object has itself: a method may be called `constructor`. */
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

function shown(value, digits = 3) {
  if (value === null || value === undefined || value === "") return "-";
  return typeof value === "number" ? value.toFixed(digits) : String(value);
}

function withInterval(value, low, high) {
  return value === null ? "-" : shown(value) + (low === null || low === undefined ? "" : ` [${shown(low)}, ${shown(high)}]`);
}

const modelName = (row) => `${row.source} ${row.domain} ${row.model}`;
const label = (row) => `${row.domain} ${row.model} ${row.method}`;

// ------------------------------------------------------------------ state: controls and the address bar

const CHECKED = ["domain", "column", "bands"];
const SINGLE = ["text", "only", "model", "size", "family", "when", "source", "least", "most", "twins", "sample", "slider",
  "modelA", "methodA", "modelB", "methodB"];
const state = { sort: "", cell: "" };
const valuesOf = (name) => named(name).filter((box) => box.checked).map((box) => box.value);
let initial = {};

function controls() {
  const found = { role: valuesOf("role")[0] };
  for (const name of CHECKED) found[name] = valuesOf(name).map(encodeURIComponent).join(","); // names may hold commas
  for (const name of SINGLE) found[name] = named(name)[0]?.value ?? "";
  return found;
}

function writeAddress() {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...controls(), ...state })) {
    if (value !== (initial[name] ?? "")) parts.set(name, value);
  }
  const hash = parts.toString();
  const part = location.hash && !location.hash.includes("="); // the link of a part of the page
  if (hash !== location.hash.slice(1) && (hash || !part)) {
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }
}

function setControls(wanted) {
  for (const name of CHECKED) {
    const values = wanted[name].split(",");
    for (const box of named(name)) box.checked = values.includes(encodeURIComponent(box.value));
  }
  for (const box of named("role")) box.checked = box.value === wanted.role;
  for (const name of SINGLE) {
    fillChoices(name);
    const control = named(name)[0];
    if (!control) continue;
    control.value = wanted[name];
    if (control.selectedIndex === -1) control.selectedIndex = 0;
  }
}

function readAddress() {
  if (location.hash && !location.hash.includes("=")) return writeAddress(); // the link of a part of the page
  const parts = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  setControls({ ...initial, ...parts });
  state.sort = parts.sort ?? "";
  state.cell = parts.cell ?? "";
  render();
}

// ---------------------------------------------------------------------------------------- curves and table

const FILTERS = { only: "domain", model: "model", size: "size", family: "family", when: "when", source: "source" };

/** Whether a row passes the filters `c`. */
function fits(row, c) {
  const words = c.text.toLowerCase().split(/\s+/).filter(Boolean);
  const said = `${row.source} ${row.domain} ${row.model} ${row.method} ${row.family} ${row.status}`.toLowerCase();
  return c.domain.split(",").includes(encodeURIComponent(row.domain)) && words.every((word) => said.includes(word))
    && Object.entries(FILTERS).every(([name, column]) => !c[name] || row[column] === c[name])
    && (!c.least || (row.ratio !== null && row.ratio >= Number(c.least)))
    && (!c.most || (row.ratio !== null && row.ratio <= Number(c.most)));
}

const lines = all("#cells tbody tr"), marks = all(".cells .mark"), heads = all("#cells thead th");
let kept = [], shownOrder = "", shownColumns = "";

function inOrder(numbers) {
  const name = state.sort.replace(/^-/, "");
  if (!data.columns.includes(name)) return numbers;
  const sign = state.sort.startsWith("-") ? -1 : 1;
  const empty = (value) => value === null || value === "";
  return [...numbers].sort((i, k) => {
    const [a, b] = [rows[i][name], rows[k][name]];
    if (empty(a) || empty(b)) return empty(a) - empty(b) || i - k;
    return sign * (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0) || i - k;
  });
}

function renderCurves() {
  const domains = valuesOf("domain"), role = controls().role;
  for (const group of all(".series")) group.toggleAttribute("hidden", !domains.includes(group.dataset.domain));
  for (const panel of all(".panel")) panel.hidden = role !== "both" && panel.dataset.role !== role;
  document.body.classList.toggle("no-bands", !valuesOf("bands").length);
}

/** Only the chosen columns. The order of the columns never changes. */
function renderColumns() {
  const columns = valuesOf("column");
  if (shownColumns === columns.join()) return;
  shownColumns = columns.join();
  heads.forEach((head, i) => {
    const hides = !columns.includes(head.dataset.column);
    for (const line of [head.parentElement, ...lines]) line.cells[i].classList.toggle("extra", hides);
  });
}

function renderTable() {
  const c = controls();
  const visible = new Set(rows.map((row, i) => i).filter((i) => fits(rows[i], c)));
  const order = inOrder(rows.map((row, i) => i));
  kept = order.filter((i) => visible.has(i));
  for (const i of order) lines[i].hidden = !visible.has(i);
  if (shownOrder !== state.sort) one("cells").tBodies[0].append(...order.map((i) => lines[i]));
  shownOrder = state.sort;
  for (const mark of marks) {
    mark.toggleAttribute("hidden", !visible.has(Number(mark.dataset.row)));
    mark.classList.toggle("chosen", keyOf(rows[mark.dataset.row]) === state.cell);
  }
  one("count").textContent = `${kept.length} of ${rows.length} cells`;
  for (const head of heads) {
    const name = head.dataset.column;
    if (state.sort.replace(/^-/, "") !== name) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", state.sort.startsWith("-") ? "descending" : "ascending");
  }
}

// ------------------------------------------------------------------------------------------------ downloads

const FLAT = () => data.columns.filter((name) => name !== "metrics");
const metricNames = () => [...new Set(kept.flatMap((i) => Object.keys(rows[i].metrics)))].sort();

function csvCell(value) {
  let text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(" ") : String(value);
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet must not run it
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function asCsv() {
  const metrics = metricNames();
  const lines = kept.map((i) => [...FLAT().map((name) => rows[i][name]), ...metrics.map((name) => rows[i].metrics[name])]);
  return [[...FLAT(), ...metrics], ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function download(name, kind, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --------------------------------------------------------------------------------------------- one record

function facts(pairs) {
  return element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/** Own records may repeat published cells, so the key of a row also names its source. */
function keyOf(row) {
  return row.source === data.main ? row.cells[0] : `${row.cells[0]} ${row.source}`;
}

function renderRecord() {
  const dialog = one("record");
  const row = rows.find((r) => keyOf(r) === state.cell) ?? rows.find((r) => r.cells.includes(state.cell));
  if (!row) {
    if (dialog.open) dialog.close();
    return;
  }
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const metrics = Object.entries(row.metrics).map(([name, value]) => [name.replaceAll("_", " "), String(Number(value.toPrecision(4)))]);
  dialog.replaceChildren(
    element("header", {}, element("h2", { id: "record-title" }, label(row)), close),
    facts([
      ["family", `${row.family}; ${row.when}`],
      ["status", row.status + (row.reason ? `: ${row.reason}` : "")],
      ["file", `${shown(row.ratio, 2)}x smaller, ${shown(row.stored_bytes, 0)} bytes, ${shown(row.bits_per_param, 2)} bits a parameter`],
      ["quality", withInterval(row.quality, row.quality_low, row.quality_high)],
      ["diversity", withInterval(row.diversity, row.diversity_low, row.diversity_high)],
      ["records", row.cells.map((cell, i) => `${cell} (sampling seed ${row.seeds[i]})`).join(", ")],
      ["measured", `${row.samples} samples a seed, k = ${row.k}, weights ${row.weights}, commit ${shown(row.commit)}, ${row.source}`],
    ]),
    element("p", {}, "Repeat it:"), element("pre", {}, row.command),
    ...samplesOf(row),
    element("details", {}, element("summary", {}, "All metrics, means over sampling seeds"), facts(metrics)),
  );
  if (!dialog.open) dialog.showModal();
}

function samplesOf(row) {
  const twins = data.twins.find((t) => t.source === row.source && t.domain === row.domain && t.model === row.model);
  const some = twins && own(twins.samples, row.method);
  if (!some) return [];
  const made = some.map((sample, i) => element("td", {}, sampleOf(twins, sample, `sample ${i + 1}`), fateOf(twins, row.method, i)));
  const kind = twins.kind === "text";
  const body = kind ? made.slice(0, 3).map((cell) => element("tr", {}, cell)) : [element("tr", {}, ...made)];
  const table = element("table", { class: `twins ${twins.kind}` }, element("caption", {}, "Samples, and what became of each twin"), element("tbody", {}, ...body));
  return [element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Samples" }, table)];
}

// -------------------------------------------------------------------------------------------------- samples

function sampleOf(twins, sample, alt) {
  return twins.kind === "picture" ? element("img", { src: sample, alt, width: 56, height: 56 }) : `${sample} `;
}

function fateOf(twins, method, i, words = false) {
  const [sign, name] = data.fates[own(twins.fates, method)?.[i] ?? "-"];
  const text = element("span", words ? {} : { class: "unseen" }, words ? ` ${name}` : name);
  return element("span", { class: `fate f-${name.replaceAll(" ", "-")}`, title: name }, element("span", { "aria-hidden": "true" }, sign), text);
}

const ratioOf = (twins, method) => rows.find((r) => r.source === twins.source && r.domain === twins.domain && r.model === twins.model && r.method === method)?.ratio ?? 1;

/** The methods of the slider, largest file first: the ladder that begins at the uncompressed network. */
function ladderOf(twins) {
  const methods = Object.keys(twins.samples).map((method) => [ratioOf(twins, method), method]);
  const ends = methods.some(([, method]) => method.endsWith("+recalibrate"));
  const own = ([, method]) => method === "none" || method.endsWith("+recalibrate") === ends;
  return methods.filter(own).filter(([, method]) => method === "none" || familyOf(twins, method).startsWith("ladder")).sort((a, b) => a[0] - b[0]);
}

const familyOf = (twins, method) => rows.find((r) => r.domain === twins.domain && r.model === twins.model && r.method === method)?.family ?? "";

function renderSamples() {
  const c = controls();
  const twins = data.twins[Number(c.twins)];
  if (!twins) return;
  const smaller = 2 ** Number(c.slider);
  const ladder = ladderOf(twins);
  const [ratio, method] = ladder.filter(([r]) => r <= smaller * 1.001).at(-1) ?? ladder[0] ?? [1, "none"];
  const i = Number(c.sample) || 0;
  one("slider-text").textContent = `${smaller.toFixed(1)}x`;
  named("slider")[0].setAttribute("aria-valuetext", `${smaller.toFixed(1)} times smaller: ${method}, ${ratio.toFixed(1)}x`);
  const key = [c.twins, method, i].join(" ");
  if (one("viewer").dataset.key === key) return;
  const before = one("viewer").dataset.key?.split(" ")[0];
  one("viewer").dataset.key = key;
  one("viewer").replaceChildren(element("div", { class: "pair" },
    card(twins, "none", 1, i, false), card(twins, method, ratio, i, true)));
  if (before !== c.twins || twins.kind === "text") one("twins").replaceChildren(twinsTable(twins, i));
  for (const line of all("#twins tbody tr")) line.classList.toggle("chosen", line.dataset.method === method);
  for (const cell of all("#twins [data-sample]")) cell.classList.toggle("chosen", Number(cell.dataset.sample) === i);
}

function card(twins, method, ratio, i, fades) {
  const sample = own(twins.samples, method)?.[i] ?? "";
  const title = method === "none" ? "uncompressed, 1x" : `${method}, ${ratio.toFixed(1)}x smaller`;
  const made = twins.kind === "picture" ? sampleOf(twins, sample, `sample ${i + 1}, ${title}`) : element("blockquote", { tabindex: "0" }, sample);
  if (fades) made.classList.add("fade");
  return element("div", { class: "twin" }, element("h3", {}, title), made, element("p", {}, fateOf(twins, method, i, true)));
}

function twinsTable(twins, i) {
  const count = Object.values(twins.samples)[0]?.length ?? 0;
  const numbers = twins.kind === "text" ? [i] : [...Array(count).keys()];
  const head = element("tr", {}, element("th", { scope: "col" }, "method"), element("th", { scope: "col", class: "number" }, "smaller"),
    ...numbers.map((k) => element("th", { scope: "col", "data-sample": k }, twins.kind === "text" ? `sample ${k + 1}` : `${k + 1}`)));
  const lines = Object.entries(twins.samples).map(([method, some]) => element("tr", { "data-method": method },
    element("th", { scope: "row" }, method), element("td", { class: "number" }, `${ratioOf(twins, method).toFixed(1)}x`),
    ...numbers.map((k) => element("td", { "data-sample": k }, ...(twins.kind === "text" ? [fateOf(twins, method, k), " ", some[k]]
      : [sampleOf(twins, some[k], `${method}, sample ${k + 1}`), fateOf(twins, method, k)])))));
  const name = `${twins.domain} ${twins.model}`;
  const table = element("table", { class: `twins ${twins.kind}` }, element("caption", {}, `${name}, sampling seed ${shown(twins.seed, 0)}`),
    element("thead", {}, head), element("tbody", {}, ...lines));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Twins of ${name}` }, table);
}

// ------------------------------------------------------------------------------------------------ compare two

const LADDER = "the whole ladder (C)";
const modelNames = [...new Set(rows.map(modelName))];

function fillChoices(name) {
  const control = named(name)[0];
  const fill = (values) => {
    const before = control.value;
    control.replaceChildren(...values.map(([value, text]) => element("option", { value }, text)));
    control.value = before;
    if (control.selectedIndex === -1) control.selectedIndex = 0;
    return before;
  };
  if (name === "sample") {
    const twins = data.twins[Number(controls().twins)];
    if (control && twins && !fill([...(Object.values(twins.samples)[0] ?? []).keys()].map((i) => [String(i), String(i + 1)]))) {
      control.selectedIndex = Math.max(0, (twins.fates.none ?? "").indexOf("i")); // the first valid sample
    }
  } else if (name === "modelA" || name === "modelB") {
    fill(modelNames.map((model) => [model, model]));
  } else if (name === "methodA" || name === "methodB") {
    const model = named(name.replace("method", "model"))[0].value;
    const methods = rows.filter((row) => modelName(row) === model && row.method !== "none").map((row) => row.method);
    fill([LADDER, ...methods].map((method) => [method, method]));
  }
}

/** A triangle's entry for two numbers, and whether it is that of (b, a). */
const entry = (triangle, a, b) => (a > b ? [triangle[a]?.[b], 1] : [triangle[b]?.[a], -1]);

/** [value, low, high] of one side, and of the difference; how it was judged; the verdict. */
function judged(role, a, b) {
  if (a.method === LADDER || b.method === LADDER) return a.method === b.method ? byScore(role, a.model, b.model) : null;
  const [x, y] = [a, b].map((side) => rows.find((row) => modelName(row) === side.model && row.method === side.method));
  if (!x || !y || x[role] === null || y[role] === null) return null;
  const sides = [x, y].map((row) => [row[role], row[`${role}_low`], row[`${role}_high`]]);
  const value = x[role] - y[role];
  const paired = a.model === b.model && own(data.paired, a.model);
  const half = paired && a.method !== b.method ? entry(paired[role], paired.methods.indexOf(a.method), paired.methods.indexOf(b.method))[0] : null;
  if (half !== null && half !== undefined) {
    return { sides, difference: [value, value - half, value + half], larger: Math.abs(value) > half, how: "paired by sample: the interval of the difference is of this one model" };
  }
  if (sides.some(([, low]) => low === null) || x === y) return { sides, difference: [value], larger: null, how: "no interval is known" };
  const apart = sides[0][1] > sides[1][2] || sides[1][1] > sides[0][2];
  return { sides, difference: [value], larger: apart, how: `the two 95 % intervals ${apart ? "do not " : ""}overlap` };
}

function byScore(role, a, b) {
  const [i, k] = [a, b].map((name) => data.models.names.indexOf(name));
  const sides = [i, k].map((n) => data.models[role][n]);
  if (!sides[0] || !sides[1]) return null;
  const [pair, sign] = i === k ? [null, 1] : entry(data.models.pairs[role], i, k);
  if (!pair) return { sides, difference: [sides[0][0] - sides[1][0]], larger: null, how: "no test is possible" };
  const [value, low, high, p] = pair;
  const ends = sign > 0 ? [low, high] : [-high, -low];
  return { sides, difference: [sign * value, ...ends], larger: p < 0.05, how: `Welch's test of these two networks, over sampling seeds and items: p ${p < 0.001 ? "below 0.001" : `= ${p.toFixed(3)}`}, not adjusted for other pairs` };
}

function renderCompare() {
  const c = controls();
  const [a, b] = ["A", "B"].map((side) => ({ model: c[`model${side}`], method: c[`method${side}`] }));
  const verdicts = [], lines = [];
  for (const role of ["quality", "diversity"]) {
    const found = judged(role, a, b);
    if (!found) continue;
    const [value, low, high] = found.difference;
    const verdict = found.larger === null ? "It is not known whether the difference is larger than the noise"
      : found.larger ? "The difference is larger than the noise" : "The difference is within the noise";
    verdicts.push(element("li", {}, element("strong", {}, `${role}: ${verdict}`), `. Judged by: ${found.how}.`));
    lines.push(element("tr", {}, element("th", { scope: "row" }, role),
      element("td", { class: "number" }, (value > 0 ? "+" : "") + withInterval(value, low, high)),
      ...found.sides.map(([v, l, h]) => element("td", { class: "number" }, withInterval(v, l, h)))));
  }
  if (!lines.length) verdicts.push(element("li", {}, "These two cannot be compared. Choose the ladder for both, or a method for both."));
  const head = ["retention", "first minus second", `${a.model}, ${a.method}`, `${b.model}, ${b.method}`];
  const table = element("table", {}, element("caption", {}, "Means with 95 % intervals"),
    element("thead", {}, element("tr", {}, ...head.map((text, i) => element("th", { scope: "col", class: i ? "number" : "" }, text)))), element("tbody", {}, ...lines));
  const counts = [a, b].map((side) => rows.find((row) => modelName(row) === side.model)?.samples);
  const unlike = counts[0] === counts[1] ? [] : [element("p", {}, `They were measured with ${counts[0]} and ${counts[1]} samples, and diversity depends on that.`)];
  one("comparison").replaceChildren(element("ul", {}, ...verdicts), ...unlike, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" }, table));
}

// --------------------------------------------------------------------------------------------------- events

function render() {
  renderCurves();
  renderColumns();
  renderTable();
  renderSamples();
  renderCompare();
  writeAddress();
  renderRecord();
}

document.addEventListener("input", (event) => {
  const name = event.target.name;
  if (name === "twins") fillChoices("sample");
  if (name === "modelA" || name === "modelB") fillChoices(name.replace("model", "method"));
  render();
});
for (const form of all("form")) form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("click", (event) => {
  const sort = event.target.closest(".sort"), open = event.target.closest("a.open, .cells .mark");
  if (sort) {
    const name = sort.parentElement.dataset.column;
    const first = name in data.numbers ? `-${name}` : name;
    state.sort = state.sort === first ? (first === name ? `-${name}` : name) : state.sort === "" || state.sort.replace(/^-/, "") !== name ? first : "";
  } else if (open) {
    event.preventDefault();
    state.cell = keyOf(rows[open.closest("[data-row]").dataset.row]);
  } else return;
  render();
});
one("record").addEventListener("close", () => {
  state.cell = "";
  renderTable();
  writeAddress();
});
one("clear").addEventListener("click", () => {
  state.sort = "";
  for (const name of ["text", "least", "most", ...Object.keys(FILTERS)]) named(name)[0].value = "";
  for (const box of named("domain")) box.checked = true;
  render();
});
one("csv").addEventListener("click", () => download("cells.csv", "text/csv", asCsv()));
one("json").addEventListener("click", () => download("cells.json", "application/json", JSON.stringify(kept.map((i) => rows[i]), null, 1)));
window.addEventListener("hashchange", readAddress);

for (const name of ["modelA", "modelB", "sample"]) if (named(name)[0]) fillChoices(name);
if (named("modelB")[0].options.length > 1) named("modelB")[0].selectedIndex = 1;
for (const name of ["methodA", "methodB"]) fillChoices(name);
initial = controls();
if (location.hash.includes("=")) readAddress();
else render();
