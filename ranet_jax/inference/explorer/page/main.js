// Connects the parts of the page: what the user chooses is requested, painted and kept in the address.

import { ask, askBytes, askPicture, newest, upload } from "./api.js";
import { errorLayer, greyLayer, Grid, heat, labelLayer, paintView, regionLayer, zoomOf } from "./paint.js";
import * as panel from "./panel.js";
import { readAddress, regionParameters, state, writeAddress } from "./state.js";

const element = (id) => document.getElementById(id);
const view = element("view");
const SLIDERS = ["threshold", "regions", "representatives"];
const TITLES = {
  photograph: "Photograph", fine: "Fine", coarse: "Coarse", boundary: "Boundary",
  regions: "Regions", truth: "Truth", errors: "Errors",
  ...Object.fromEntries(panel.MAPS.map(({ name, title }) => [name, title])),
};

let network;
let scene = null; // sizes, layers and the photograph of the image
let facts = {}; // regions, and the pixel
let turn = 0; // the number of the latest request
const askRegions = newest(), askPixel = newest();

// ------------------------------------------------------------------------------ requests

// Work that ends after newer work has begun leaves the messages to the newer work.
async function guarded(work, waiting) {
  const own = ++turn;
  element("busy").textContent = waiting;
  element("error").hidden = true;
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError" || own !== turn) return;
    element("error").textContent = error.message;
    element("error").hidden = false;
  }
  if (own !== turn) return;
  element("busy").textContent = "";
  document.body.classList.remove("opening");
}

function open(work, name) {
  document.body.classList.add("opening");
  guarded(work, `Segmenting ${name} … The first image of a size takes longer, because the network is compiled for it.`);
}

// Does work on the image that is open; does nothing while another image is being opened.
function act(work, waiting = "") {
  if (scene !== null && !document.body.classList.contains("opening")) guarded(work, waiting);
}

async function openImage(key) {
  const own = turn;
  chooseInList(key);
  const found = await ask("scene", { image: key });
  const [picture, ...layers] = await Promise.all([
    askPicture(key), ...found.layers.map((name) => askBytes("layer", { image: key, name })),
  ]);
  if (own !== turn) return;
  const changed = state.image !== null && key !== state.image;
  scene = { ...found, picture, gridOnView: new Grid(found.grid, found.view, found.align_corners) };
  scene.maps = Object.fromEntries(found.layers.map((name, i) => [name, layers[i]]));
  facts = {};
  state.image = key;
  if (changed) Object.assign(state, { pixel: null, other: null, place: null });
  element("with-regions").hidden = element("settings").hidden = !scene.has_regions;
  element("without-regions").hidden = scene.has_regions;
  const [height, width] = scene.grid;
  for (const id of ["row", "other-row"]) element(id).max = height - 1;
  for (const id of ["column", "other-column"]) element(id).max = width - 1;
  const count = height * width;
  if (state.pixel >= count) state.pixel = null;
  if (state.other >= count) state.other = null;
  showLayers();
  repaint();
  if (scene.has_regions) facts.regions = await askRegions("regions", regionParameters());
  state.pixel ??= middleOfLargest(height, width);
  repaint();
  await point(state.pixel, state.other, state.place);
}

// The largest region's pixel that is closest to its middle; without regions, the image's middle.
function middleOfLargest(height, width) {
  const root = facts.regions?.regions[0]?.root;
  const pixels = Array.from({ length: height * width }, (_, i) => i).filter((i) => root === undefined || facts.regions.labels[i] === root);
  const mean = (of) => pixels.reduce((sum, i) => sum + of(i), 0) / pixels.length;
  const row = mean((i) => Math.floor(i / width)), column = mean((i) => i % width);
  const distance = (i) => (Math.floor(i / width) - row) ** 2 + ((i % width) - column) ** 2;
  return pixels.reduce((best, i) => (distance(i) < distance(best) ? i : best));
}

async function point(pixel, other, place = null) {
  performance.mark("pointed");
  Object.assign(state, { pixel, other, place });
  const parameters = { ...regionParameters(), pixel };
  if (other !== null) parameters.other = other;
  if (place !== null) parameters.place = place;
  facts.pixel = await askPixel("pixel", parameters);
  showPixel();
  repaint();
  performance.measure("pointing to picture", "pointed");
}

async function reconstruct() {
  facts.regions = await askRegions("regions", regionParameters());
  await point(state.pixel, state.other);
}

// ------------------------------------------------------------------------------ showing

function overlay() {
  const [height, width] = scene.view;
  const { maps } = scene;
  const onView = (picture) => ({ picture, onGrid: false });
  const onGrid = (picture) => ({ picture, onGrid: true });
  const { layer } = state;
  if (layer === "boundary" && maps.boundary) return onView(greyLayer(maps.boundary, [height, width]));
  if (layer === "errors" && maps.truth) return onView(errorLayer(maps.fine, maps.truth, [height, width], network.classes.length));
  if (layer === "regions" && facts.regions) return onGrid(regionLayer(facts.regions, scene.grid));
  if (maps[layer]) return onView(labelLayer(maps[layer], [height, width], network.classes, state.hidden));
  const values = panel.mapValues(facts, layer);
  return values ? onGrid(heat(values, scene.grid, network.colormap, panel.mapLargest(values, layer))) : null;
}

function repaint() {
  if (scene === null) return;
  paintView(view, scene, facts, panel.mapValues(facts, state.layer), overlay);
  const caption = facts.regions?.caption ?? "";
  const purity = caption.includes("purity") ? " (share of the pixels of their region's most frequent true class)" : "";
  element("caption").textContent = caption + purity;
  writeAddress();
}

function showPixel() {
  const { pixel } = facts;
  const width = scene.grid[1];
  const other = state.other ?? pixel.pixel;
  Object.assign(element("row"), { value: pixel.row });
  Object.assign(element("column"), { value: pixel.column });
  element("other-row").value = Math.floor(other / width);
  element("other-column").value = other % width;
  panel.readout(pixel, network, state.threshold);
  panel.showClasses(pixel, network);
  if (!scene.has_regions) return;
  panel.showMaps(facts, scene, network, chooseLayer);
  panel.showSegment(facts);
  panel.showRegion(facts, network);
  panel.showPlaces(facts, (place) => act(() => point(state.pixel, state.other, place)));
  panel.showHeard(facts, network);
}

function availableLayers() {
  const { layers, has_regions: hasRegions } = scene;
  return [
    "photograph", ...(hasRegions ? ["regions"] : []), ...layers,
    ...(layers.includes("truth") ? ["errors"] : []),
    ...(hasRegions ? panel.MAPS.map(({ name }) => name) : []),
  ];
}

function showLayers() {
  const names = availableLayers();
  if (!names.includes(state.layer)) state.layer = names.includes("fine") ? "fine" : names[0];
  const holder = element("layers");
  holder.replaceChildren(holder.querySelector("legend"), ...names.map((name) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "layer", value: name, checked: name === state.layer });
    input.addEventListener("change", () => chooseLayer(name));
    const label = document.createElement("label");
    label.append(input, TITLES[name]);
    return label;
  }));
}

function chooseLayer(name) {
  state.layer = name;
  for (const input of document.querySelectorAll("input[name=layer]")) input.checked = input.value === name;
  if (facts.pixel && scene.has_regions) panel.showMaps(facts, scene, network, chooseLayer);
  repaint();
}

function showList() {
  element("image").replaceChildren(...network.images.map((key) => new Option(key, key)));
}

// If the image is not in the list, no entry is selected, so that every entry can still be chosen.
function chooseInList(key) {
  element("image").value = key;
}

function showClassToggles() {
  const holder = element("classes");
  holder.replaceChildren(holder.querySelector("legend"), ...network.classes.map(({ name, color }, index) => {
    const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: !state.hidden.includes(index) });
    input.addEventListener("change", () => {
      state.hidden = state.hidden.filter((each) => each !== index);
      if (!input.checked) state.hidden.push(index);
      repaint();
    });
    const label = document.createElement("label");
    label.append(input, panel.swatch(color), name);
    return label;
  }));
}

function showSettings() {
  for (const name of SLIDERS) {
    const input = element(name);
    input.value = state[name];
    input.nextElementSibling.textContent = name === "threshold" ? state[name].toFixed(2) : state[name];
  }
}

// ------------------------------------------------------------------------------ gestures

function placeOf(event) {
  const box = view.getBoundingClientRect();
  const scale = Math.min(box.width / view.width, box.height / view.height);
  const left = box.left + (box.width - scale * view.width) / 2;
  const top = box.top + (box.height - scale * view.height) / 2;
  const unit = scale * zoomOf(scene); // the size on the screen of one pixel of the image as shown
  return scene.gridOnView.pixelAt((event.clientY - top) / unit, (event.clientX - left) / unit);
}

function pointAt(pixel, second) {
  const [chosen, other] = second ? [state.pixel, pixel] : [pixel, state.other];
  if (chosen !== state.pixel || other !== state.other) act(() => point(chosen, other));
}

function move(event) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] };
  if (scene === null || !(event.key in steps)) return;
  event.preventDefault();
  const second = event.shiftKey || element("second").checked;
  const [height, width] = scene.grid;
  const from = second ? state.other ?? state.pixel : state.pixel;
  const inside = (value, count) => Math.min(count - 1, Math.max(0, value));
  const [down, right] = steps[event.key];
  pointAt(inside(Math.floor(from / width) + down, height) * width + inside((from % width) + right, width), second);
}

function typed(rowId, columnId, second) {
  const row = element(rowId), column = element(columnId);
  if (!row.checkValidity() || !column.checkValidity() || row.value === "" || column.value === "") {
    (row.checkValidity() && row.value !== "" ? column : row).reportValidity();
    return;
  }
  pointAt(Number(row.value) * scene.grid[1] + Number(column.value), second);
}

function openFile(file) {
  open(async () => {
    const key = await upload(file, network.max_bytes);
    if (!network.images.includes(key)) network.images.push(key);
    showList();
    await openImage(key);
  }, file.name);
}

function step(direction) {
  const list = element("image");
  const to = list.selectedIndex + direction;
  if (to < 0 || to >= list.length) return;
  list.selectedIndex = to;
  choose();
}

function choose() {
  const key = element("image").value;
  open(() => openImage(key), key);
}

function saveView() {
  view.toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    const name = `${(state.image ?? "view").replace(/[^\w.-]+/g, "_")}_${state.layer}.png`;
    Object.assign(document.createElement("a"), { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}

async function copyLink() {
  writeAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    element("copied").textContent = "Copied.";
  } catch {
    element("copied").textContent = "Copy it from the address bar.";
  }
}

function listen() {
  element("image").addEventListener("change", choose);
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  element("file").addEventListener("change", (event) => {
    if (event.target.files.length) openFile(event.target.files[0]);
    event.target.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
    });
  }
  view.addEventListener("pointerdown", (event) => {
    if (scene === null) return;
    view.focus();
    pointAt(placeOf(event), event.shiftKey || element("second").checked);
  });
  view.addEventListener("pointermove", (event) => {
    if (scene !== null && event.buttons === 1) pointAt(placeOf(event), event.shiftKey || element("second").checked);
  });
  view.addEventListener("keydown", move);
  for (const id of ["row", "column"]) element(id).addEventListener("change", () => typed("row", "column", false));
  for (const id of ["other-row", "other-column"]) element(id).addEventListener("change", () => typed("other-row", "other-column", true));
  element("opacity").addEventListener("input", (event) => { state.opacity = Number(event.target.value); repaint(); });
  for (const id of ["contours", "marks"]) {
    element(id).addEventListener("change", (event) => { state[id] = event.target.checked; repaint(); });
  }
  for (const name of SLIDERS) {
    element(name).addEventListener("input", (event) => { state[name] = Number(event.target.value); showSettings(); });
    element(name).addEventListener("change", () => act(reconstruct, "Recomputing regions …"));
  }
  element("reset").addEventListener("click", () => {
    Object.assign(state, network.settings);
    showSettings();
    act(reconstruct, "Recomputing regions …");
  });
  addEventListener("hashchange", () => location.reload()); // another link was pasted
  addEventListener("resize", repaint);
  element("save").addEventListener("click", saveView);
  element("link").addEventListener("click", copyLink);
}

async function start() {
  network = await ask("network");
  Object.assign(state, network.settings);
  readAddress(network.largest);
  document.title = `ranet explore ${network.title}`;
  element("title").textContent = network.title;
  element("note").textContent = network.note;
  element("note").hidden = network.note === "";
  element("regions").max = network.largest.regions;
  element("representatives").max = network.largest.representatives;
  element("opacity").value = state.opacity;
  for (const id of ["contours", "marks"]) element(id).checked = state[id];
  showList();
  showClassToggles();
  showSettings();
  listen();
  const key = state.image ?? network.images[0];
  if (key !== undefined) await openImage(key);
}

open(start, "the image");
