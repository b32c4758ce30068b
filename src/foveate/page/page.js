// The objects of one image at a time: shapes over the image, and a list beside it.
"use strict";
const $ = id => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
const image = $("image"), shapes = $("shapes"), labels = $("labels"), list = $("objects"), card = $("card");
const sliders = [$("score"), $("overlap")];
// Where the sliders stand in each view. That of the score begins at the threshold of the command.
const limits = { detections: { score: null, overlap: 1 }, proposals: { score: 0.15, overlap: 0.5 } };
const STAGES = ["propose", "refine", "features", "classify"];
const EXPLANATIONS = {
  detections: "Objects with the class that the classifier gives to their proposal.",
  proposals: "Objects of any class, ranked before classification.",
};
// An entry is an image of the page: its name, its thumbnail, and a function that returns its record.
const entries = [...document.querySelectorAll("script.record")].map(element => ({
  name: element.dataset.name, thumbnail: element.dataset.thumbnail, read: () => JSON.parse(element.textContent),
}));
let current = -1, record = null, kind = "detections", objects = [], lit = null, pinned = null;

function create(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function createShape(name, attributes, color) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.style.setProperty("--color", color);
  return element;
}

const shortName = path => path.replace(/^.*[\\/](?=.)/, "");

// --- images

function addThumbnail(entry) {
  const { thumbnail } = entry, name = shortName(entry.name);
  const button = create("button", { type: "button", title: name, "aria-label": name });
  if (thumbnail) button.append(create("img", { src: thumbnail, alt: "", loading: "lazy" }));
  else button.append(name);
  button.onclick = () => openImage(entries.indexOf(entry));
  $("images").append(button);
  $("images").hidden = entries.length < 2;
}

function openImage(index) {
  current = index;
  [...$("images").children].forEach((button, n) => {
    if (n === index) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  const strip = $("images"), thumbnail = strip.children[index];
  strip.scrollLeft = thumbnail.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumbnail.offsetWidth) / 2;
  showRecord(entries[index].read(), entries[index].image);
}

function showRecord(next, source) {
  record = next;
  image.src = record.image ?? source;
  image.alt = shortName(record.name);
  shapes.setAttribute("viewBox", `0 0 ${record.width} ${record.height}`);
  $("title").replaceChildren(create("b", { title: record.name }, shortName(record.name)), `${record.width} × ${record.height}`);
  document.title = `${shortName(record.name)} - Foveate`;
  $("frame").hidden = false;
  document.body.classList.remove("empty");
  limits.detections.score ??= record.score_threshold;
  fit();
  showTimes();
  showObjects();
}

// The frame has the shape of the image, and is as large as the room for it.
function fit() {
  if (!record) return;
  const room = $("stage").getBoundingClientRect();
  const narrow = matchMedia("(max-width: 860px)").matches;
  const scale = Math.min(room.width / record.width, narrow ? innerHeight * 0.7 / record.height : room.height / record.height);
  $("frame").style.width = `${record.width * scale}px`;
  $("frame").style.height = `${record.height * scale}px`;
}

function showTimes() {
  const place = name => STAGES.includes(name) ? STAGES.indexOf(name) : STAGES.length;
  const stages = Object.entries(record.stages).sort(([a], [b]) => place(a) - place(b));
  const sum = stages.reduce((total, [, ms]) => total + ms, 0);
  $("times").hidden = !sum;
  $("times").querySelector("span").textContent = `${format(sum)} ms`;
  const colors = stages.map(([name]) => `var(--t${place(name)})`);
  $("times").querySelector(".bar").replaceChildren(...stages.map(([, ms], n) =>
    create("span", { style: `--color: ${colors[n]}; width: ${100 * ms / sum}%` })));
  $("times").querySelector("ul").replaceChildren(...stages.map(([name, ms], n) =>
    create("li", {}, create("i", { style: `--color: ${colors[n]}` }), `${name} ${format(ms)} ms`)));
}

const format = value => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// --- objects

function showObjects() {
  light(null, pinned = null);
  objects = record[kind].map((one, index) => ({ ...one, index, name: nameOf(one, index), color: settings.colors[index % settings.colors.length] }));
  for (const one of objects) {
    const [x0, y0, x1, y1] = one.box;
    one.shape = createShape("path", { d: one.path, "data-index": one.index }, one.color);
    one.frame = createShape("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }, one.color);
    one.label = create("span", { style: `--color: ${one.color}; --on-color: ${isLight(one.color) ? "#000" : "#fff"}` },
      kind === "detections" ? `${one.name} ${one.score.toFixed(2)}` : one.score.toFixed(2));
    one.item = createItem(one);
  }
  // A small object in front of a large one stays visible, and can be pointed at.
  const back = [...objects].sort((a, b) => b.area - a.area);
  shapes.replaceChildren(...back.map(one => one.shape), ...back.map(one => one.frame));
  labels.replaceChildren(...objects.map(one => one.label));
  list.replaceChildren(...objects.map(one => one.item));
  for (const one of objects) one.labelSize = [one.label.offsetWidth, one.label.offsetHeight];
  for (const [n, name] of ["score", "overlap"].entries()) sliders[n].value = limits[kind][name];
  for (const input of document.querySelectorAll("[name=kind]"))
    input.nextElementSibling.querySelector("b").textContent = record[input.value].length;
  $("explanation").textContent = EXPLANATIONS[kind];
  filter();
}

function nameOf(one, index) {
  return kind === "detections" ? record.classes[one.class] : `proposal ${index + 1}`;
}

function createItem(one) {
  const percent = `${format(100 * one.area / record.width / record.height)} %`;
  const button = create("button", {
    type: "button", tabindex: -1, "aria-pressed": "false", "data-index": one.index, style: `--color: ${one.color}; --share: ${100 * one.score}%`,
    "aria-label": `${one.name}, score ${one.score.toFixed(2)}, ${percent} of the image`,
  }, create("i"), create("span", {}, one.name), create("u"), create("b", {}, one.score.toFixed(2)));
  return create("li", {}, button);
}

// The indices of the objects that the sliders leave: those that no better one overlaps by more.
function chosen(all, { score, overlap }) {
  const kept = [];
  for (const one of all)
    if (one.score >= score && kept.every(better => iou(better.box, one.box) <= overlap)) kept.push(one);
  return kept;
}

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared);
}

function filter() {
  const limit = limits[kind], kept = new Set(chosen(objects, limit));
  for (const one of objects) {
    one.shown = kept.has(one);
    one.shape.style.display = one.frame.style.display = one.label.style.display = one.shown ? "" : "none";
    one.item.hidden = !one.shown;
  }
  sliders[0].nextElementSibling.value = limit.score.toFixed(2);
  sliders[1].nextElementSibling.value = `${Math.round(100 * limit.overlap)} %`;
  const hint = kept.size ? "" : kind === "detections" ? "; lower the slider of the score, or look at the proposals" : "; lower the slider of the score";
  $("count").textContent = `${kept.size} of ${objects.length} ${kind} shown${hint}`;
  if (pinned && !pinned.shown) pinned = null;
  light(pinned);
  placeLabels();
}

// --- labels

// Better objects get better places. A label that would cover another one is hidden.
function placeLabels() {
  const scale = $("frame").clientWidth / (record?.width ?? 1), bounds = [$("frame").clientWidth, $("frame").clientHeight], taken = [];
  for (const one of objects) {
    if (!one.shown) continue;
    const [width, height] = one.labelSize, [x0, y0, x1, y1] = one.box.map(value => value * scale);
    const tops = [y0 - height, y0, y1 - height, y1, y0 + height, (y0 + y1 - height) / 2], lefts = [x0, x1 - width, (x0 + x1 - width) / 2];
    const places = tops.flatMap(top => lefts.map(left => [clamp(left, bounds[0] - width), clamp(top, bounds[1] - height)]));
    const place = places.find(([left, top]) => taken.every(other =>
      left >= other[0] + other[2] || other[0] >= left + width || top >= other[1] + other[3] || other[1] >= top + height));
    one.label.classList.toggle("crowded", !place);
    one.place = place ? [...place, width, height] : null;
    if (!place) continue;
    taken.push(one.place);
    one.label.style.transform = `translate(${place[0]}px, ${place[1]}px)`;
  }
}

const clamp = (value, most) => Math.max(0, Math.min(value, most));

function isLight(color) {
  const [red, green, blue] = [1, 3, 5].map(start => parseInt(color.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

// --- pointing at objects

function light(one) {
  for (const element of lit ? [lit.shape, lit.frame, lit.label, lit.item.firstChild] : []) element.classList.remove("lit");
  lit = one;
  for (const element of [shapes, labels]) element.classList.toggle("some", Boolean(one));
  card.hidden = !one;
  for (const other of objects) {
    other.item.firstChild.tabIndex = -1;
    other.item.firstChild.setAttribute("aria-pressed", String(other === pinned));
  }
  const first = one ?? objects.find(other => other.shown);
  if (first) first.item.firstChild.tabIndex = 0;
  if (!one) return;
  for (const element of [one.shape, one.frame, one.label, one.item.firstChild]) element.classList.add("lit");
  const { offsetTop, offsetHeight } = one.item;
  if (offsetTop < list.scrollTop) list.scrollTop = offsetTop;
  else if (offsetTop + offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = offsetTop + offsetHeight - list.clientHeight;
  showCard(one);
}

function showCard(one) {
  const [x0, y0, x1, y1] = one.box, { scale, window } = record.levels[one.level];
  const facts = {
    Area: `${format(one.area)} px, ${format(100 * one.area / record.width / record.height)} % of the image`,
    Size: `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)} px`,
    Level: `${one.level + 1} of ${record.levels.length}, scale ${Number(scale.toFixed(3))}`,
    Window: `${format(window)} px`,
  };
  card.style.setProperty("--color", one.color);
  card.replaceChildren(
    create("h3", {}, create("span", {}, one.name), create("span", {}, one.score.toFixed(2))),
    create("dl", {}, ...Object.entries(facts).flatMap(([name, text]) => [create("dt", {}, name), create("dd", {}, text)])));
  // Beside the object where there is room, so that it stays visible.
  const ratio = $("frame").clientWidth / record.width, { offsetWidth: width, offsetHeight: height } = card;
  const right = x1 * ratio + 10, left = x0 * ratio - width - 10, room = $("frame").clientWidth;
  const x = right + width <= room ? right : left >= 0 ? left : clamp((x0 + x1) / 2 * ratio - width / 2, room - width);
  const beside = right + width <= room || left >= 0;
  const y = beside ? y0 * ratio : y1 * ratio + height + 10 <= $("frame").clientHeight ? y1 * ratio + 10 : 8;
  card.style.transform = `translate(${x}px, ${clamp(y, $("frame").clientHeight - height)}px)`;
}

function pin(one) {
  pinned = one === pinned ? null : one;
  light(pinned ?? one);
}

function objectOf(event) {
  const index = event.target.closest("[data-index]")?.dataset.index;
  return index === undefined ? null : objects[index];
}

shapes.addEventListener("pointerover", event => light(objectOf(event) ?? pinned));
shapes.addEventListener("pointerleave", () => light(pinned));
shapes.addEventListener("click", event => pin(objectOf(event)));
list.addEventListener("pointerover", event => light(objectOf(event) ?? pinned));
list.addEventListener("pointerleave", () => light(pinned));
list.addEventListener("focusin", event => light(objectOf(event)));
list.addEventListener("focusout", () => light(pinned));
list.addEventListener("click", event => objectOf(event) && pin(objectOf(event)));

// --- controls

sliders.forEach(slider => slider.addEventListener("input", () => {
  limits[kind][slider.id] = Number(slider.value);
  filter();
}));
for (const input of document.querySelectorAll("[name=kind]"))
  input.addEventListener("change", () => { kind = input.value; if (record) showObjects(); });
const toggles = [[$("masks"), shapes, "no-masks"], [$("boxes"), shapes, "no-boxes"], [$("names"), labels, "no-names"]];
for (const [input, element, name] of toggles) {
  const apply = () => element.classList.toggle(name, !input.checked);
  input.addEventListener("change", apply);
  apply();
}

document.addEventListener("keydown", event => {
  if (event.key === "Escape") {
    light(pinned = null);
    return;
  }
  if (event.target.matches("input") && event.target.type !== "checkbox" || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step || current < 0 && !record) return;
  event.preventDefault();
  if (["ArrowLeft", "ArrowRight"].includes(event.key)) {
    if (entries[current + step]) openImage(current + step);
    return;
  }
  const shown = objects.filter(one => one.shown), at = shown.indexOf(lit);
  const next = at < 0 ? shown.at(step > 0 ? 0 : -1) : shown[clamp(at + step, shown.length - 1)];
  next?.item.firstChild.focus({ preventScroll: true });
});

// --- downloads

function save(name, blob) {
  const link = create("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const stem = path => shortName(path).replace(/\.\w+$/, "");

// COCO's form, with images and categories; `annotations` alone is a list of results.
function cocoDocument() {
  const annotations = [], images = [];
  let classes = [];
  for (const [n, entry] of entries.entries()) {
    const { name, width, height, classes: names, [kind]: all, score_threshold: threshold } = entry.read();
    classes = kind === "detections" ? names : ["object"];
    images.push({ id: n + 1, file_name: name, width, height });
    for (const one of chosen(all, { ...limits[kind], score: limits[kind].score ?? threshold })) {
      const [x0, y0, x1, y1] = one.box;
      annotations.push({
        image_id: n + 1, category_id: (one.class ?? 0) + 1, bbox: [x0, y0, x1 - x0, y1 - y0].map(value => Math.round(1000 * value) / 1000),
        score: one.score, segmentation: { size: [height, width], counts: one.rle }, id: annotations.length + 1, area: one.area, iscrowd: 0,
      });
    }
  }
  return { images, categories: classes.map((name, n) => ({ id: n + 1, name })), annotations };
}

$("save-json").onclick = () => {
  const name = entries.length === 1 ? stem(entries[0].name) : "foveate";
  save(`${name}-${kind}.json`, new Blob([JSON.stringify(cocoDocument())], { type: "application/json" }));
};

function drawOverlay() {
  // The browser may not be able to show an image, and the masks are there all the same.
  const canvas = create("canvas", { width: image.naturalWidth || record.width, height: image.naturalHeight || record.height });
  const context = canvas.getContext("2d");
  const ratio = canvas.width / record.width, dot = canvas.width / $("frame").clientWidth;
  if (image.naturalWidth) context.drawImage(image, 0, 0);
  const shown = objects.filter(one => one.shown).sort((a, b) => b.area - a.area);
  for (const one of shown) {
    const bright = one === lit, path = new Path2D();
    path.addPath(new Path2D(one.path), new DOMMatrix([ratio, 0, 0, ratio, 0, 0]));
    const faint = lit && !bright ? 0.16 : 1;
    const style = getComputedStyle(one.shape);
    if ($("masks").checked || bright) {
      context.globalAlpha = faint * Number(style.fillOpacity);
      context.fillStyle = one.color;
      context.fill(path, "evenodd");
      context.globalAlpha = faint;
      context.strokeStyle = style.stroke;
      context.lineWidth = parseFloat(style.strokeWidth) * dot;
      context.stroke(path);
    }
    if ($("boxes").checked || bright) {
      const [x0, y0, x1, y1] = one.box.map(value => value * ratio);
      context.globalAlpha = faint;
      context.strokeStyle = getComputedStyle(one.frame).stroke;
      context.lineWidth = 1.6 * dot;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }
  if ($("names").checked) drawLabels(context, dot);
  return canvas;
}

function drawLabels(context, dot) {
  context.font = `600 ${12 * dot}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const one of objects) {
    if (!one.shown || !one.place) continue;
    const [left, top, width, height] = one.place.map(value => value * dot);
    context.globalAlpha = lit && one !== lit ? 0.16 : 1;
    context.fillStyle = one.color;
    context.fillRect(left, top, width, height);
    context.fillStyle = isLight(one.color) ? "#000" : "#fff";
    context.fillText(one.label.textContent, left + 6 * dot, top + height / 2);
  }
}

$("save-png").onclick = () => record && drawOverlay().toBlob(blob => save(`${stem(record.name)}-overlay.png`, blob));

// --- start

new ResizeObserver(() => { fit(); placeLabels(); if (lit) showCard(lit); }).observe($("stage"));
entries.forEach(addThumbnail);
if (entries.length) openImage(0);
