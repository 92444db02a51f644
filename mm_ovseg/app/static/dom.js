/** Small helpers for the document. Text from the server or a visitor is only ever set as text, never as HTML. */

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element.
 * @param {string} tag
 * @param {Object} properties of the element, such as className; `style` and `aria` hold their own.
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function element(tag, { style = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

/**
 * Fill a group with radio buttons, after its title.
 * @param {HTMLElement} group
 * @param {Array<[string, string]>} choices value and text; the first is chosen unless `chosen` is among them.
 * @param {string} [chosen]
 */
export function fillRadios(group, choices, chosen) {
  const value = choices.some(([name]) => name === chosen) ? chosen : choices[0]?.[0];
  const radio = (name) => element("input", { type: "radio", name: group.id, value: name, checked: name === value });
  const labels = choices.map(([name, text]) => element("label", {}, radio(name), text));
  group.replaceChildren(group.querySelector("h3"), element("div", { className: "choices" }, ...labels));
}

/** The value of the chosen radio button of a group; undefined if it has none. */
export const chosenRadio = (group) => group.querySelector("input:checked")?.value;

/** Fill a list with one item a sentence. */
export function fillList(list, sentences) {
  list.replaceChildren(...sentences.map((sentence) => element("li", {}, sentence)));
}

/** An inline swatch of a colour [r, g, b]. */
export const swatch = (color) =>
  element("span", { className: "swatch", style: { background: `rgb(${color.join(" ")})` }, aria: { hidden: "true" } });
