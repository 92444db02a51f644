/** The table of classes. */

import { byId, element, swatch } from "./dom.js";
import { area, count, percent } from "./text.js";

const NONE = 254; // the value of "none of the names"

/**
 * Draw the legend.
 * @param {Object[]} classes of a map or of its recount.
 */
export function drawLegend(classes) {
  const areas = classes.some(({ hectares }) => hectares !== null);
  const heads = ["Class", areas ? "Area" : "Pixels", "Share", "Score"];
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  byId("legend").tHead.replaceChildren(head);
  byId("legend").tBodies[0].replaceChildren(...classes.map((entry) => row(entry, areas)));
  byId("legend-note").textContent = note(classes);
}

/** The classes and their shares as a sentence. */
export function summary(classes) {
  return `${classes.map(({ name, share }) => `${name} ${percent(share)}`).join(", ")}.`;
}

function row(entry, areas) {
  const name = entry.unseen ? element("u", {}, entry.name) : entry.name;
  return element(
    "tr",
    { style: { "--share": String(entry.share) } },
    element("th", { scope: "row" }, swatch(entry.color), name),
    element("td", {}, areas ? area(entry.hectares) : count(entry.pixels)),
    element("td", { className: "share" }, percent(entry.share)),
    element("td", {}, percent(entry.confidence)),
  );
}

function note(classes) {
  const notes = ["Score: the mean over the class’s pixels."];
  if (classes.some(({ unseen }) => unseen)) notes.unshift("Underlined: not labelled in the model’s training.");
  if (classes.some(({ value }) => value === NONE)) notes.push("None: none of the names.");
  return notes.join(" ");
}
