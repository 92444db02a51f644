/** The choice of layers. */

import { byId, chosenRadio, element, fillRadios } from "./dom.js";

const NAMES = { rgb: "RGB", sar: "SAR", map: "Map", classes: "Classes", confidence: "Confidence" };
const withNames = (values) => values.map((value) => [value, NAMES[value]]);

/**
 * Listen to the controls.
 * @param {() => void} onChange called when something else is to be shown.
 */
export function listenToView(onChange) {
  fillRadios(byId("view-layer"), withNames(["classes", "confidence"]));
  // On a phone the map is small; the controls are one tap away.
  byId("view").open = window.matchMedia("(min-width: 800px)").matches;
  byId("view").addEventListener("input", () => {
    byId("compare-sides").hidden = !byId("compare").checked;
    onChange();
  });
}

/** Offer the images of a scene. */
export function offerImages(images) {
  fillRadios(byId("view-image"), withNames(images), chosenRadio(byId("view-image")));
  const sides = [...images, "map"];
  [["compare-left", sides[0]], ["compare-right", "map"]].forEach(([id, proposal]) => {
    const select = byId(id);
    const chosen = sides.includes(select.value) ? select.value : proposal;
    select.replaceChildren(...withNames(sides).map(([value, text]) => element("option", { value, textContent: text })));
    select.value = chosen;
  });
}

/** What is chosen, as {@link Layers.show} takes it. */
export function chosenView() {
  const sides = [byId("compare-left").value, byId("compare-right").value];
  return {
    image: chosenRadio(byId("view-image")),
    layer: chosenRadio(byId("view-layer")),
    opacity: byId("opacity").value / 100,
    sides: byId("compare").checked ? sides : null,
  };
}

/** How many pixels at the right of the map the open controls cover. */
export const coveredWidth = () => (byId("view").open ? byId("view").offsetWidth : 0);

/** The names of the sides of the divider; null for none. */
export const sideNames = ({ sides }) => sides?.map((side) => NAMES[side]) ?? null;
