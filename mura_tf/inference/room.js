"use strict";
/* The reading room: drops in, findings out. Text of files reaches the page as text alone. */

const at = (id) => document.getElementById(id);
const RANK = { abnormal: 0, doubtful: 1, normal: 2, "not read": 3 };
const MOST_FILES = 1000; // of a request, which the server's form parser takes
const state = { studies: [], views: [], study: -1, view: 0, zoom: 1, x: 0, y: 0, plain: null, heat: null, asked: 0, uploads: [], bundle: "" };

// ---------------------------------------------------------------------------------------------
// The model

async function begin() {
  const health = await (await fetch("/api/health")).json();
  state.bundle = health.bundle;
  at("model").textContent = `${health.name} ${health.version}: ${health.study_types.join(", ")}`;
  for (const type of health.study_types) at("type").append(new Option(type, type));
  const names = health.operating_points.map((point) => point.point);
  for (const point of health.operating_points) {
    const text = point.low === point.high ? `above ${point.low.toFixed(2)}` : `doubtful from ${point.low.toFixed(2)} to ${point.high.toFixed(2)}`;
    at("point").append(new Option(`${point.point}: ${text}`, point.point));
  }
  at("point").value = names.includes("doubt") ? "doubt" : names[0];
}

// ---------------------------------------------------------------------------------------------
// Files in

async function entryFiles(entry, path, found) {
  if (entry.name.startsWith(".")) return; // as a Mac leaves beside each file
  if (entry.isFile) {
    const file = await new Promise((yes, no) => entry.file(yes, no));
    found.push([path + file.name, file]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((yes, no) => reader.readEntries(yes, no));
    if (!some.length) return;
    for (const one of some) {
      await entryFiles(one, `${path}${entry.name}/`, found);
      if (found.length > MOST_FILES) return; // more than can be sent
    }
  }
}

async function dropped(event) {
  event.preventDefault();
  at("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
  const found = [];
  try {
    if (entries.some(Boolean)) {
      tell("Looking through what was dropped …");
      for (const entry of entries.filter(Boolean)) await entryFiles(entry, "", found);
    } else {
      for (const file of event.dataTransfer.files) found.push([file.name, file]);
    }
  } catch (error) {
    tell("");
    fail(`Not read: ${error.message}`);
    return;
  }
  send(found);
}

function chosen(event) {
  send([...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]));
  event.target.value = "";
}

function send(found) {
  if (!state.bundle) return; // the server has not answered, which is told
  if (!state.uploads.length) { // what failed before is known by now
    tell("");
    at("failures").replaceChildren();
  }
  found = found.filter(([name]) => !name.split("/").pop().startsWith("."));
  if (!found.length) {
    fail("Not read: there is no file in what was given.");
    return;
  }
  if (found.length > MOST_FILES) {
    fail(`Not read: an upload has ${MOST_FILES} files at most. Give a zip of the folder.`);
    return;
  }
  const token = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
  const form = new FormData();
  for (const [name, file] of found) form.append("files", file, name);
  form.append("study_type", at("type").value);
  form.append("each_file", at("each").checked);
  form.append("point", at("point").value);
  form.append("token", token);
  form.append("bundle", state.bundle);
  const decidedBy = at("point").selectedOptions[0].textContent;
  state.uploads.push({ token, form, decidedBy, count: found.length, name: found[0][0] });
  if (state.uploads.length === 1) readUploads();
}

/* One after the other; each stays in the queue while it is read. */
async function readUploads() {
  while (state.uploads.length) {
    await readUpload(state.uploads[0]);
    state.uploads.shift();
  }
}

async function readUpload({ token, form, decidedBy, count, name }) {
  let answered = false;
  at("progress").hidden = false;
  at("progress").removeAttribute("value");
  tell(`Reading ${count} file${count === 1 ? "" : "s"} …`);
  const watch = setInterval(async () => {
    const done = await fetch(`/api/progress/${token}`).then((answer) => answer.json()).catch(() => ({}));
    if (done.of && !answered) {
      at("progress").value = done.studies / done.of;
      tell(`${done.studies} of ${done.of} studies read`);
    }
  }, 400);
  try {
    const answer = await fetch("/api/read", { method: "POST", body: form }).catch(() => {
      throw new Error("the server does not answer, or a file has changed. Start it again, or give the files anew");
    });
    const isJson = (answer.headers.get("content-type") || "").includes("json");
    const content = isJson ? await answer.json() : {};
    answered = true;
    if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : "the upload was refused");
    arrived(content, decidedBy);
  } catch (error) {
    answered = true;
    tell("");
    fail(`Not read: ${name}${count > 1 ? ` and ${count - 1} more` : ""}: ${error.message}`);
  } finally {
    clearInterval(watch);
    at("progress").hidden = true;
  }
}

/* Progress, of which the last word counts; failures stay. */
function tell(text) { at("status").textContent = text; }

function fail(text) {
  const item = document.createElement("li");
  item.textContent = text;
  at("failures").append(item);
}

function arrived(content, decidedBy) {
  const first = state.studies.length;
  const taken = new Set(state.studies.map((study) => study.study));
  for (const [place, study] of content.studies.entries()) {
    const name = unlike(taken, study.study);
    taken.add(name);
    state.studies.push({ ...study, study: name, number: first + place, decided_by: decidedBy });
  }
  state.views.push(...content.views.map((view) => ({ ...view, study_number: first + view.study_number })));
  const said = content.studies.reduce((counts, { decision }) => ({ ...counts, [decision]: (counts[decision] || 0) + 1 }), {});
  tell(Object.entries(said).map(([decision, count]) => `${count} ${decision}`).join(", "));
  at("room").hidden = false;
  listStudies();
  show(order().find((study) => study.number >= first).number);
}

/* The server tells the studies of one upload apart; here are several. */
function unlike(taken, name) {
  let told = name;
  for (let times = 2; taken.has(told); times += 1) told = `${name} (${times})`;
  return told;
}

// ---------------------------------------------------------------------------------------------
// Worklist

function order() {
  return [...state.studies].sort((one, other) => RANK[one.decision] - RANK[other.decision]
    || (other.probability ?? -1) - (one.probability ?? -1) || one.number - other.number);
}

function listStudies() {
  const focused = at("worklist").contains(document.activeElement) ? document.activeElement.dataset.number : null;
  at("worklist").replaceChildren(...order().map((study) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = study.decision;
    button.dataset.number = study.number;
    button.append(study.study);
    const line = document.createElement("span");
    const value = study.probability === null ? "" : `, ${study.probability.toFixed(2)}`;
    line.textContent = `${study.study_type || "unknown type"}: ${study.decision}${value}`;
    button.append(line);
    button.onclick = () => show(study.number);
    item.append(button);
    return item;
  }));
  if (focused) at("worklist").querySelector(`[data-number="${focused}"]`).focus();
}

function step(by) {
  const list = order();
  const place = list.findIndex((study) => study.number === state.study);
  show(list[(place + by + list.length) % list.length].number);
}

// ---------------------------------------------------------------------------------------------
// One study

function show(number) {
  state.study = number;
  const study = state.studies[number];
  for (const button of at("worklist").querySelectorAll("button")) {
    const here = Number(button.dataset.number) === number;
    button.setAttribute("aria-current", here);
    if (here) button.scrollIntoView({ block: "nearest" });
  }
  at("name").textContent = study.study;
  at("decision").textContent = study.decision;
  at("decision").className = study.decision;
  const number3 = (value) => (value === null ? "–" : value.toFixed(3));
  const facts = {
    "Study type": study.study_type ? `${study.study_type}${study.type_from ? ` (${study.type_from})` : ""}` : "unknown",
    Probability: number3(study.probability),
    Calibrated: number3(study.calibrated),
    "Decided by": study.decided_by,
    "Members' deviation": number3(study.disagreement),
  };
  at("numbers").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  }));
  at("warnings").replaceChildren(...study.warnings.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  at("report").hidden = !study.report;
  if (study.report) at("report").href = study.report;
  const views = viewsOf(number);
  const focused = at("views").contains(document.activeElement);
  at("views").replaceChildren(...views.map((view, place) => {
    const button = document.createElement("button");
    button.type = "button";
    const value = view.probability === null ? "not read" : view.probability.toFixed(2);
    button.textContent = `${view.file} ${value}`;
    button.onclick = () => look(place);
    return button;
  }));
  const best = views.reduce((top, view, place) => ((view.probability ?? -1) > (views[top].probability ?? -1) ? place : top), 0);
  look(best);
  if (focused) at("views").children[best].focus();
}

function viewsOf(number) { return state.views.filter((view) => view.study_number === number); }

async function look(place) {
  state.view = place;
  [...at("views").children].forEach((button, index) => button.setAttribute("aria-current", index === place));
  const view = viewsOf(state.study)[place];
  const asked = state.asked += 1;
  const unread = view?.probability == null;
  const why = unread ? "This file could not be read." : "There were too many pictures to keep this one: give its study alone.";
  let [plain, heat, missing] = [null, null, view?.radiograph ? "" : why];
  const put = () => {
    Object.assign(state, { plain, heat, zoom: 1, x: 0, y: 0 });
    at("missing").textContent = missing;
    at("png").disabled = !plain;
    draw();
  };
  put(); // no other study's picture stays under this name
  if (missing) return;
  try {
    plain = await loaded(view.radiograph);
    heat = view.heat ? grey(await loaded(view.heat)) : null;
  } catch {
    [plain, heat, missing] = [null, null, "This picture is forgotten by now: give the file again."];
  }
  if (asked !== state.asked) return; // another was asked for meanwhile
  put();
}

function loaded(address) {
  return new Promise((yes, no) => {
    const image = new Image();
    image.onload = () => yes(image);
    image.onerror = () => no(new Error(address));
    image.src = address;
  });
}

function grey(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// ---------------------------------------------------------------------------------------------
// The picture

const PLASMA = [[13, 8, 135], [84, 2, 163], [139, 10, 165], [185, 50, 137], [219, 92, 104], [244, 136, 73], [254, 188, 43], [240, 249, 33]];

function colour(level) {
  const place = (level / 255) * (PLASMA.length - 1);
  const low = Math.min(Math.floor(place), PLASMA.length - 2);
  return PLASMA[low].map((from, index) => from + (place - low) * (PLASMA[low + 1][index] - from));
}

/* What was made of the same things last is not made again: panning and zooming change none of it. */
const made = {};
function once(name, things, make) {
  const last = made[name];
  if (!last || last.things.some((thing, place) => thing !== things[place])) made[name] = { things, value: make() };
  return made[name].value;
}

function shown() {
  const picture = grey(state.plain);
  const low = Number(at("level").value) - Number(at("window").value) / 2;
  const scale = 255 / Number(at("window").value);
  const invert = at("invert").checked;
  for (let index = 0; index < picture.data.length; index += 4) {
    let value = Math.min(255, Math.max(0, (picture.data[index] - low) * scale));
    if (invert) value = 255 - value;
    picture.data[index] = picture.data[index + 1] = picture.data[index + 2] = value;
    picture.data[index + 3] = 255;
  }
  return bitmap(picture);
}

function overlay() {
  const heat = new ImageData(new Uint8ClampedArray(state.heat.data), state.heat.width, state.heat.height);
  const opacity = Number(at("opacity").value);
  for (let index = 0; index < heat.data.length; index += 4) {
    const level = heat.data[index];
    const [red, green, blue] = colour(level);
    heat.data[index] = red;
    heat.data[index + 1] = green;
    heat.data[index + 2] = blue;
    heat.data[index + 3] = 255 * opacity * (level / 255) ** 0.7;
  }
  return bitmap(heat);
}

function bitmap(data) {
  const canvas = document.createElement("canvas");
  canvas.width = data.width;
  canvas.height = data.height;
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/* The boxes around the places hotter than half of the hottest, as connected components. */
function boxes() {
  const { width, height, data } = state.heat;
  let most = 0;
  for (let index = 0; index < data.length; index += 4) most = Math.max(most, data[index]);
  if (!most) return [];
  const seen = new Uint8Array(width * height);
  const found = [];
  for (let start = 0; start < seen.length; start += 1) {
    if (seen[start] || data[4 * start] < most / 2) continue;
    const stack = [start];
    const box = [width, height, 0, 0];
    seen[start] = 1;
    while (stack.length) {
      const place = stack.pop();
      const x = place % width;
      const y = (place - x) / width;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
      for (const [near, inside] of [[place - 1, x > 0], [place + 1, x < width - 1], [place - width, y > 0], [place + width, y < height - 1]]) {
        if (inside && !seen[near] && data[4 * near] >= most / 2) {
          seen[near] = 1;
          stack.push(near);
        }
      }
    }
    found.push(box);
  }
  return found;
}

function draw() {
  const canvas = at("picture");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (!state.plain) return;
  paint(context, canvas.width, canvas.height, state.zoom, state.x * ratio, state.y * ratio);
}

function paint(context, width, height, zoom, x, y) {
  const { naturalWidth, naturalHeight } = state.plain;
  const scale = Math.min(width / naturalWidth, height / naturalHeight) * zoom;
  const box = [(width - naturalWidth * scale) / 2 + x, (height - naturalHeight * scale) / 2 + y, naturalWidth * scale, naturalHeight * scale];
  context.imageSmoothingQuality = "high";
  const levels = [state.plain, at("level").value, at("window").value, at("invert").checked];
  context.drawImage(once("shown", levels, shown), ...box);
  if (state.heat && Number(at("opacity").value) > 0) {
    context.drawImage(once("overlay", [state.heat, at("opacity").value], overlay), ...box);
  }
  if (state.heat && at("boxes").checked) {
    context.strokeStyle = "#5cb8ec";
    context.lineWidth = Math.max(2, width / 500);
    const across = box[2] / state.heat.width;
    const down = box[3] / state.heat.height;
    for (const [left, top, right, bottom] of once("boxes", [state.heat], boxes)) {
      context.strokeRect(box[0] + left * across, box[1] + top * down, (right - left) * across, (bottom - top) * down);
    }
  }
}

function zoom(factor) {
  const before = state.zoom;
  state.zoom = Math.min(20, Math.max(1, state.zoom * factor));
  state.x *= state.zoom / before;
  state.y *= state.zoom / before;
  draw();
}

function reset() {
  Object.assign(state, { zoom: 1, x: 0, y: 0 });
  at("level").value = 128;
  at("window").value = 255;
  at("invert").checked = false;
  at("opacity").value = 0.6;
  draw();
}

let heated = 0.6;
function toggleHeat() {
  const now = Number(at("opacity").value);
  if (now > 0) heated = now;
  at("opacity").value = now > 0 ? 0 : heated;
  draw();
}

function flip(id) {
  at(id).checked = !at(id).checked;
  draw();
}

let dragged = null;
at("picture").onpointerdown = (event) => {
  if (event.button || !event.isPrimary) return;
  dragged = [event.clientX, event.clientY];
  at("picture").setPointerCapture(event.pointerId);
};
at("picture").onpointermove = (event) => {
  if (!dragged || !event.isPrimary) return;
  const [dx, dy] = [event.clientX - dragged[0], event.clientY - dragged[1]];
  dragged = [event.clientX, event.clientY];
  if (event.shiftKey) {
    at("window").value = Number(at("window").value) + dx;
    at("level").value = Number(at("level").value) + dy;
  } else {
    state.x += dx;
    state.y += dy;
  }
  draw();
};
at("picture").onlostpointercapture = () => { dragged = null; };
at("picture").onwheel = (event) => {
  event.preventDefault();
  if (event.deltaY) zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
};

// ---------------------------------------------------------------------------------------------
// Downloads

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function cell(value) {
  const text = value === null ? "" : Array.isArray(value) ? value.join("; ") : String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text; // no formula in a spreadsheet
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

at("csv").onclick = () => {
  const columns = ["study", "study_type", "type_from", "views", "probability", "calibrated", "decision", "disagreement", "warnings", "files", "decided_by"];
  const lines = [columns, ...order().map((study) => columns.map((name) => study[name]))];
  save(new Blob([lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }), "findings.csv");
};

at("png").onclick = () => {
  const study = state.studies[state.study];
  const canvas = document.createElement("canvas");
  const wide = Math.max(640, state.plain.naturalWidth);
  const high = Math.round((state.plain.naturalHeight * wide) / state.plain.naturalWidth);
  canvas.width = wide;
  canvas.height = high + 64;
  const context = canvas.getContext("2d");
  context.fillStyle = "#14181c";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.save();
  context.beginPath();
  context.rect(0, 0, wide, high);
  context.clip();
  paint(context, wide, high, 1, 0, 0);
  context.restore();
  context.fillStyle = "#e4e9ee";
  context.font = "16px system-ui";
  context.fillText(`${study.study}: ${study.decision}`, 12, high + 26, wide - 24);
  context.font = "13px system-ui";
  context.fillText("Research software, not a medical device. The colours tell where, not how abnormal.", 12, high + 50, wide - 24);
  canvas.toBlob((blob) => save(blob, "view.png"), "image/png");
};

// ---------------------------------------------------------------------------------------------
// Hands

const KEYS = {
  n: () => step(1), p: () => step(-1), h: toggleHeat, i: () => flip("invert"), b: () => flip("boxes"),
  v: () => look((state.view + 1) % viewsOf(state.study).length),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: reset,
};
const PANS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox";
  if (event.target === at("drop") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    at("files").click();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || state.study < 0) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (PANS[event.key] && event.target === at("picture")) {
    event.preventDefault();
    state.x += PANS[event.key][0];
    state.y += PANS[event.key][1];
    draw();
  }
});
at("drop").onclick = () => at("files").click();
at("files").onchange = chosen;
at("folder").onchange = chosen;
at("reset").onclick = reset;
for (const id of ["opacity", "level", "window", "invert", "boxes"]) at(id).oninput = draw;
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", dropped);
window.addEventListener("resize", () => { if (state.study >= 0) draw(); });
begin().catch(() => fail("The server does not answer. Start it again, and reload the page."));
