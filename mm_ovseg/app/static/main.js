/** The page: a map of a scene, and the questions asked of it. */

import { getJSON, postForStream } from "./api.js";
import { byId, chosenRadio, element, fillList, fillRadios } from "./dom.js";
import { Layers } from "./layers.js";
import { drawLegend, summary } from "./legend.js";
import { createMap, toBounds, toCorners } from "./map.js";
import { PointPopup } from "./popup.js";
import { ReadingForm } from "./reading.js";
import { AreaRectangle } from "./rectangle.js";
import { Run } from "./run.js";
import { Swipe } from "./swipe.js";
import { count, duration, size } from "./text.js";
import { FileChooser } from "./upload.js";
import { chosenView, coveredWidth, listenToView, offerImages, sideNames } from "./view.js";

const SENSORS = { both: "RGB and SAR", rgb: "RGB alone", sar: "SAR alone" };
const FILES = { geotiff: "GeoTIFF", geopackage: "GeoPackage", report: "Report", confidence: "Confidence" };
const DEBOUNCE = 150; // milliseconds

/** What is open: a scene with what shows it, its map, the area to map, and where its files came from. */
const open = { scene: null, result: null, corners: {}, source: null, view: null };
const run = new Run(setStatus, setAlert);
const choosers = {};
let reading = null;
let recount = null; // the request of a legend

/** Show a sentence, and read it aloud with details that can be seen elsewhere. */
function setStatus(text, details = "") {
  byId("status").textContent = text;
  byId("status-details").textContent = details;
}

function setAlert(text) {
  byId("alert").textContent = text;
  byId("alert-close").hidden = !text;
}

/** Show a scene in place of the last. @param {Object|null} source what POST /api/scenes was asked for. */
function showScene(scene, source) {
  const before = open.view;
  const stays = (key) => String(scene[key]) === String(open.scene[key]);
  const place = before && ["width", "height", "bounds"].every(stays) && [before.map.getCenter(), before.map.getZoom()];
  if (before) {
    before.popup.close();
    for (const part of [before.area, before.swipe, before.map]) part.remove();
  }
  Object.assign(open, { scene, source, result: null });

  const map = createMap(byId("map"), scene, coveredWidth());
  if (place) map.setView(...place, { animate: false });
  const layers = new Layers(map, scene, setAlert);
  const popup = new PointPopup(map, scene, (text) => (byId("point-status").textContent = text));
  const area = new AreaRectangle(map, scene, noteArea, noteDrawing);
  open.view = { map, layers, popup, area, swipe: new Swipe(map, layers.panes) };
  map.on("click", ({ latlng }) => !area.drawing && open.result && popup.ask(open.result, minScore(), latlng));
  noteArea(null);

  offerImages(scene.images);
  const usable = scene.images.length > 1 ? ["both", "rgb", "sar"] : scene.images;
  fillRadios(byId("sensors"), usable.map((name) => [name, SENSORS[name]]), chosenRadio(byId("sensors")));
  byId("scene-name").textContent = scene.name;
  byId("scene-text").textContent = describe(scene);
  fillList(byId("scene-warnings"), scene.warnings);
  showReading();
  byId("result").hidden = true;
  byId("make").textContent = "Make the map";
  noteFiles();
  redraw();
}

function describe({ width, height, meters_per_pixel: meters, crs }) {
  const pixelSize = meters ? ` of ${count(Math.round(meters * 100) / 100)} m` : "";
  return `${count(width)} × ${count(height)} pixels${pixelSize}, ${crs ?? "not georeferenced"}.`;
}

/** Show a map of the scene. */
function showResult(result) {
  open.result = result;
  open.view.popup.close();
  byId("result").hidden = false;
  byId("make").textContent = "Ask again";
  byId("min-score").value = 0;
  showMinScore();
  drawLegend(result.classes);
  fillList(byId("map-warnings"), result.warnings);
  byId("downloads").replaceChildren(...result.files.map((name) => downloadLink(result, name)));
  redraw();
  const { map } = open.view;
  const bounds = toBounds(map, open.scene, result.bounds ?? result.pixels);
  if (!map.getBounds().intersects(bounds)) map.fitBounds(bounds);
  const features = result.asked_again ? ", from kept features" : "";
  setStatus(`Made in ${duration(result.seconds)}${features}.`, summary(result.classes));
}

function downloadLink(result, name) {
  const href = `api/maps/${result.id}/files/${name}`;
  const link = element("a", { href, download: "", className: "button" }, FILES[name]);
  if (name === "geopackage") link.addEventListener("click", makePolygons);

  function makePolygons(event) {
    event.preventDefault();
    run.start("Making the polygons", async (onEvent, signal) => {
      await postForStream(`api/maps/${result.id}/polygons`, {}, onEvent, signal);
      setStatus("The GeoPackage is ready.");
      link.removeEventListener("click", makePolygons);
      link.click();
    });
  }

  return link;
}

/** Draw what is chosen. */
function redraw() {
  if (!open.view) return;
  const view = chosenView();
  open.view.layers.show({ ...view, result: open.result, minScore: minScore() });
  open.view.swipe.show(sideNames(view));
  byId("confidence-scale").hidden = view.layer !== "confidence";
}

const minScore = () => byId("min-score").value / 100;

function showMinScore() {
  byId("min-score-text").textContent = minScore() ? `below ${byId("min-score").value}%` : "none";
}

/** Count again with the chosen minimum. */
async function applyMinScore() {
  const { result } = open;
  if (!result) return; // another scene was opened
  open.view.popup.close(); // it tells what was drawn before
  redraw();
  recount?.abort();
  recount = new AbortController();
  try {
    const url = `api/maps/${result.id}/legend?min_score=${minScore().toFixed(2)}`;
    const { classes } = await getJSON(url, recount.signal);
    if (result === open.result) drawLegend(classes);
  } catch (error) {
    if (error.name !== "AbortError") setAlert(error.message);
  }
}

function noteArea(bounds) {
  const { map } = open.view;
  open.corners = bounds ? toCorners(map, open.scene, bounds) : {};
  byId("area-clear").hidden = !bounds;
  byId("area-text").textContent = bounds ? areaSize(map, bounds, open.corners.pixels) : "the whole scene";
}

function areaSize(map, bounds, pixels) {
  if (pixels) return `${pixels[1][0] - pixels[0][0]} × ${pixels[1][1] - pixels[0][1]} pixels`;
  const side = (to) => count(Math.round(map.distance(bounds.getNorthWest(), to)));
  return `${side(bounds.getNorthEast())} × ${side(bounds.getSouthWest())} m`;
}

function noteDrawing(drawing) {
  byId("area-draw").setAttribute("aria-pressed", drawing);
  if (drawing) setStatus("Drag a rectangle on the map; Escape ends it.");
}

/** Open a scene, from files or an example. */
async function openScene(source, onEvent, signal) {
  const { scene } = await postForStream("api/scenes", source, onEvent, signal);
  showScene(scene, source);
  setStatus(`${scene.name} is open.`);
}

async function makeMap(onEvent, signal) {
  if (isUploading()) throw new Error("Wait until the files are uploaded.");
  if (filesChanged()) await openScene({ ...chosenFiles(), reading: reading.value }, onEvent, signal);
  if (!open.scene) throw new Error("There is no image yet; choose files, or open an example.");
  const { scene, corners } = open;
  const note = byId("downloads-note"); // the links are still those of the map before
  note.hidden = false;
  const question = {
    classes: byId("classes").value,
    background: byId("background").value,
    sensors: chosenRadio(byId("sensors")),
    area: corners.area ?? null,
    pixels: corners.pixels ?? null,
  };
  try {
    const { map } = await postForStream(`api/scenes/${scene.id}/maps`, question, onEvent, signal);
    showResult(map);
  } finally {
    note.hidden = true;
  }
}

/** The ids of the chosen files by sensor; null while some are on their way. */
const chosenFiles = () => ({ rgb: choosers.rgb.ids, sar: choosers.sar.ids });

const isUploading = () => Object.values(chosenFiles()).includes(null);

function showReading() {
  if (open.scene) reading.showScene(open.scene, open.source?.reading ?? null, open.source !== null);
  else byId("reading").hidden = true;
}

/** Offer to open the chosen files, or to read those of the scene again. */
function noteFiles() {
  const changed = filesChanged();
  if (changed && !reading.isForFiles) reading.showFiles();
  if (!changed && reading.isForFiles) showReading();
  byId("read").textContent = changed ? "Open these images" : "Read again";
  byId("read").disabled = isUploading();
}

/** Whether files are chosen that the open scene does not have. */
function filesChanged() {
  if (isUploading()) return true;
  const { rgb, sar } = chosenFiles();
  if (rgb.length + sar.length === 0) return false;
  return String([rgb, null, sar]) !== String([open.source?.rgb ?? "", null, open.source?.sar ?? ""]);
}

function listen() {
  byId("question").addEventListener("submit", (event) => {
    event.preventDefault();
    run.start("Making the map", makeMap);
  });
  byId("classes").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      if (!byId("make").disabled) byId("question").requestSubmit();
    }
  });
  byId("reading").addEventListener("submit", (event) => {
    event.preventDefault();
    const source = filesChanged() ? chosenFiles() : open.source;
    run.start("Reading the images", (...how) => openScene({ ...source, reading: reading.value }, ...how));
  });
  let timer = null;
  byId("min-score").addEventListener("input", () => {
    showMinScore();
    clearTimeout(timer);
    timer = setTimeout(applyMinScore, DEBOUNCE);
  });
  byId("area-draw").addEventListener("click", () => open.view?.area.setDrawing(!open.view.area.drawing));
  byId("area-view").addEventListener("click", () => {
    if (open.view && !open.view.area.set(open.view.map.getBounds())) setAlert("The scene is not in view.");
  });
  byId("area-clear").addEventListener("click", () => open.view.area.set(null));
  byId("map").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === byId("map") && open.result) {
      open.view.popup.ask(open.result, minScore(), open.view.map.getCenter());
    }
  });
  byId("alert-close").addEventListener("click", () => setAlert(""));
  byId("sheet").addEventListener("click", toggleSheet);
  new ResizeObserver(() => open.view?.map.invalidateSize({ animate: false })).observe(byId("map"));
}

function toggleSheet() {
  const hidden = byId("panel").classList.toggle("lowered");
  byId("sheet").setAttribute("aria-expanded", !hidden);
  byId("sheet").textContent = hidden ? "Show the panel" : "Hide the panel";
}

function addChoosers(maxBytes) {
  for (const sensor of ["rgb", "sar"]) {
    choosers[sensor] = new FileChooser(sensor, maxBytes, noteFiles, setAlert);
    byId("files").append(choosers[sensor].element);
  }
}

function addExamples(examples) {
  const buttons = examples.map(({ id, title }) => {
    const button = element("button", { type: "button" }, title);
    button.addEventListener("click", () =>
      run.start("Reading the images", async (...how) => {
        await openScene({ example: id }, ...how);
        Object.values(choosers).forEach((chooser) => chooser.clear());
      }),
    );
    return button;
  });
  byId("examples").replaceChildren(...buttons);
  byId("examples-row").hidden = examples.length === 0;
}

async function begin() {
  listen();
  listenToView(redraw);
  const page = await getJSON("api/page");
  byId("classes").value = page.classes;
  byId("files-hint").textContent =
    `RGB, SAR or both of one place; GeoTIFF, PNG, JPEG or JPEG 2000, at most ${size(page.max_upload_bytes)} a file ` +
    `and ${count(Math.round(page.max_pixels / 1e6))} million pixels. Choose several files if each holds one band.`;
  reading = new ReadingForm(page.sar_units);
  addChoosers(page.max_upload_bytes);
  addExamples(page.examples);
  if (page.opening) {
    byId("images").open = false;
    const isExample = page.examples.some(({ id }) => id === page.opening);
    showScene(await getJSON(`api/scenes/${page.opening}`), isExample ? { example: page.opening } : null);
    if (page.opening_map) showResult(page.opening_map);
  }
  byId("make").disabled = false;
}

begin().catch((error) => setAlert(error.message));
