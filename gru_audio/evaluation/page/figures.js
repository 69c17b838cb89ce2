// What was measured, and the tables of it.

const labelOf = (system) => data.systems.find(({ key }) => key === system).label;
const measureOf = (key) => data.measures.find((measure) => measure.key === key);

/** A figure with about three digits; a dash where there is none. */
function figureText(figure) {
  if (figure === null || figure === undefined) return "–";
  const size = Math.abs(figure);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return figure.toFixed(decimals).replace("-", "−");
}

const titleOf = (measure) => (measure.unit ? `${measure.title} (${measure.unit})` : measure.title);

const DIRECTIONS = { higher: "higher is better", lower: "lower is better", zero: "best at 0" };

/** Negative where the figure `a` is worse than `b`; a clip without the figure comes last either way. */
function worseFirst(measure, a, b) {
  const badness = { higher: (x) => -x, lower: (x) => x, zero: Math.abs }[measure.better];
  return badness(b) - badness(a);
}

/** A cell that holds a mean and, in small, the worst clip. */
function summaryCell(summary) {
  if (!summary) return element("td", {}, "–");
  return element("td", {}, figureText(summary.mean), element("small", {}, figureText(summary.worst)));
}

/** Fill a table: a corner and column headings, then rows of [heading, ...cells]. */
function fillTable(table, headings, rows) {
  const columns = headings.map((heading) => element("th", { scope: "col" }, heading));
  table.tHead.replaceChildren(element("tr", {}, ...columns));
  table.tBodies[0].replaceChildren(
    ...rows.map(([heading, ...cells]) => {
      heading.scope = "row";
      return element("tr", {}, heading, ...cells);
    }),
  );
}

function showBySystem() {
  const headings = ["Figure", ...data.systems.map(({ label }) => label)];
  const rows = data.measures.map((measure) => [
    element("th", {}, titleOf(measure), element("small", {}, DIRECTIONS[measure.better])),
    ...data.systems.map(({ key }) => summaryCell(data.summary[key][measure.key])),
  ]);
  fillTable(byId("by-system"), headings, rows);
}

function showBySpeaker() {
  const measure = measureOf(byId("speaker-measure").value);
  const systems = data.systems.filter(({ key }) => measure.key in data.summary[key]);
  const rows = data.speakers.map((speaker) => [
    element("th", {}, speaker || "not known"),
    ...systems.map(({ key }) => summaryCell(data.by_speaker[key][speaker]?.[measure.key])),
  ]);
  fillTable(byId("by-speaker"), ["Speaker", ...systems.map(({ label }) => label)], rows);
  byId("by-speaker-caption").textContent = `${titleOf(measure)}, ${DIRECTIONS[measure.better]}`;
}

/** Fill a select with [value, text] pairs. */
function fillSelect(id, choices) {
  byId(id).append(...choices.map(([value, text]) => element("option", { value }, text)));
}

function fillPairs(id, pairs) {
  byId(id).append(
    ...pairs.flatMap(([term, meaning]) => [element("dt", {}, term), element("dd", {}, meaning)]),
  );
}

/** Whatever a voice's metadata holds, as one line. */
function plainText(value) {
  if (value === null || value === "") return "not stated";
  if (Array.isArray(value)) return value.map(plainText).join(", ");
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([key, inner]) => `${key} ${plainText(inner)}`)
      .join(", ");
  }
  return typeof value === "number" && !Number.isInteger(value) ? figureText(value) : String(value);
}

function showFigures() {
  byId("subtitle").textContent = data.subtitle;
  fillSelect(
    "speaker-measure",
    data.measures.map((measure) => [measure.key, titleOf(measure)]),
  );
  byId("figures").hidden = data.measures.length === 0;
  byId("speakers").hidden = data.measures.length === 0 || data.speakers.length < 2;
  if (data.measures.length) {
    showBySystem();
    showBySpeaker();
    byId("speaker-measure").addEventListener("change", showBySpeaker);
  }
  fillPairs("glossary", [
    ...data.systems.map(({ label, meaning }) => [label, meaning]),
    ...data.measures.map((measure) => [titleOf(measure), `${measure.source}; ${DIRECTIONS[measure.better]}.`]),
  ]);
}

function showAbout() {
  const asText = (mapping) => Object.entries(mapping).map(([key, value]) => [key, plainText(value)]);
  fillPairs("settings", asText(data.settings));
  fillPairs("voice", asText(data.voice));
  byId("missing").hidden = data.missing.length === 0;
  byId("missing").querySelector("ul").append(...data.missing.map((line) => element("li", {}, line)));
}
