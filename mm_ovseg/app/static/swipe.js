/** The divider between two sides of the map: a range input, so that keys, mouse and touch move it. */

import { byId } from "./dom.js";

const THUMB = 44; // pixels, as in app.css

/** The divider over one Leaflet map. */
export class Swipe {
  /**
   * @param {L.Map} map
   * @param {HTMLElement[]} panes left and right.
   */
  constructor(map, panes) {
    this._map = map;
    this._panes = panes;
    this._range = byId("swipe-range");
    this._update = this._update.bind(this);
    this._range.addEventListener("input", this._update);
    map.on("move zoomend viewreset resize", this._update);
    this.show(null);
  }

  /** Show the divider with the names of its sides; null hides it. @param {string[]|null} names */
  show(names) {
    byId("swipe").hidden = names === null;
    byId("swipe-left-name").textContent = names?.[0] ?? "";
    byId("swipe-right-name").textContent = names?.[1] ?? "";
    this._update();
  }

  /** Stop listening; call it before the map is removed. */
  remove() {
    this._range.removeEventListener("input", this._update);
  }

  _update() {
    if (byId("swipe").hidden) {
      this._panes.forEach((pane) => (pane.style.clipPath = ""));
      return;
    }
    const { x: width, y: height } = this._map.getSize();
    const share = this._range.value / 100;
    const divider = THUMB / 2 + share * (width - THUMB); // the thumb stays within the range
    byId("swipe").style.setProperty("--divider", `${divider}px`);
    const [left, right] = [byId("swipe-left-name"), byId("swipe-right-name")].map((name) => name.textContent);
    this._range.setAttribute("aria-valuetext", `${left} on ${Math.round(share * 100)}%, ${right} on the rest`);
    this._panes[0].style.clipPath = this._polygon(0, divider, height);
    this._panes[1].style.clipPath = this._polygon(divider, width, height);
  }

  /** A rectangle of the screen in the panes' coordinates, which move with the map. */
  _polygon(from, to, height) {
    const [low, high] = [[from, 0], [to, height]].map((corner) => this._map.containerPointToLayerPoint(corner));
    return `polygon(${low.x}px ${low.y}px, ${high.x}px ${low.y}px, ${high.x}px ${high.y}px, ${low.x}px ${high.y}px)`;
  }
}
