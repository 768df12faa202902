// The page: its images, the selected one, and what the buttons and sliders do.

import { Camera } from "./camera.js";
import { download } from "./download.js";
import { asFailure } from "./failure.js";
import { listen } from "./intake.js";
import { listenToKey } from "./key.js";
import { showMarks } from "./marks.js";
import { isSure, listenToOptions, minFaceSize, widenConfidence } from "./options.js";
import { copy, showFaces, showJson, showTimes } from "./panel.js";
import { Queue, Upload } from "./queue.js";
import { makeItem, showItem } from "./strip.js";
import { drawUpright } from "./upright.js";
import { countInWords, nothingToList, outcomeInWords } from "./words.js";

const VIEW_PIXELS = 2048; // the longer side on the screen; the download has all pixels
const THUMB_PIXELS = 160;
const LIVE_NAME = "the camera's picture";

const $ = (id) => document.getElementById(id);
const images = [];
const camera = new Camera($("live"));
let live = null; // the last frame of the camera and its answer, while the camera runs
let selected = null;
let lit = null; // the number of the highlighted face

const queue = new Queue(minFaceSize, (image) => {
  if (image.state === "done" || image.state === "failed") draw(image);
  widenConfidence(image.answer);
  showBadge(image);
  if (image === selected) showSubject();
  announce(image);
});

/** Number the faces of an answer, and keep those that the confidence slider admits. */
function facesOf(subject) {
  const all = subject?.answer?.results ?? [];
  return all.map((face, index) => ({ number: index + 1, ...face })).filter(isSure);
}

function add(files) {
  stopCamera();
  notice("");
  const added = files.map((file) => new Upload(file));
  for (const image of added) {
    image.thumb = document.createElement("canvas");
    image.item = $("strip").appendChild(makeItem(image, select));
  }
  images.push(...added);
  if (added.length > 0) select(added[0]);
  added.forEach((image) => queue.ask(image));
  $("name").focus({ preventScroll: true });
}

function select(image) {
  selected = image;
  $("view").width = $("view").height = 0;
  if (image) draw(image);
  show();
}

function remove(image) {
  queue.drop(image);
  image.item.remove();
  const index = images.indexOf(image);
  images.splice(index, 1);
  select(images[index] ?? images[index - 1] ?? null);
  (selected ? $("name") : $("files")).focus({ preventScroll: true });
}

/** Draw an image's thumbnail, and the image itself if it is selected. */
async function draw(image) {
  const bitmap = await createImageBitmap(image.file).catch(() => null);
  if (!bitmap) return; // the browser cannot show it; the service's error is shown instead
  drawUpright(image.thumb, bitmap, image.orientation, THUMB_PIXELS);
  if (image === selected) {
    drawUpright($("view"), bitmap, image.orientation, VIEW_PIXELS);
    showSubject();
  }
  bitmap.close();
}

/** Update the whole page. */
function show() {
  $("strip").hidden = Boolean(live) || images.length < 2;
  $("camera").hidden = Boolean(live);
  images.forEach(showBadge);
  showSubject();
}

function showBadge(image) {
  showItem(image, facesOf(image).length, image === selected);
}

/** Show the camera or, if it is off, the selected image. */
function showSubject() {
  const subject = live ?? selected;
  document.body.dataset.state = subject ? "image" : "empty";
  $("work").hidden = !subject;
  if (!subject) return;
  for (const id of ["live", "stop"]) $(id).hidden = !live;
  for (const id of ["view", "remove"]) $(id).hidden = Boolean(live);
  $("retry").hidden = subject.state !== "failed";
  $("download").hidden = Boolean(live) || subject.state === "failed";
  $("download").disabled = subject.state !== "done";
  $("name").textContent = live ? "Camera" : subject.name;
  $("stage").dataset.state = subject.state;
  $("request").hidden = !subject.failure?.requestId;
  $("request").textContent = `Request ${subject.failure?.requestId}`;
  $("panel").dataset.state = subject.answer ? "answer" : "none";
  showFound(subject);
  if (!subject.answer) return;
  showTimes($("times"), subject.answer, subject.milliseconds);
  showJson($("json"), subject.answer);
}

/** Show what depends on the confidence slider. */
function showFound(subject) {
  const { answer } = subject;
  const faces = facesOf(subject);
  const text = outcomeInWords(subject, faces.length);
  $("summary").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  const source = live ? { width: $("live").videoWidth, height: $("live").videoHeight } : $("view");
  const { width, height } = answer ?? source;
  $("frame").style.setProperty("--ratio", (width || 4) / (height || 3));
  $("mat").hidden = !answer && !source.width;
  $("view").setAttribute("aria-label", `${subject.name}, ${countInWords(faces.length)} marked`);
  showMarks($("marks"), faces, width, height);
  showFaces($("faces"), faces, light);
  light(faces.some(({ number }) => number === lit) ? lit : null);
  $("no-faces").textContent = answer && faces.length === 0 ? nothingToList(answer) : "";
}

/** Highlight a face in the list and on the image, or none if `number` is null. */
function light(number) {
  lit = number;
  for (const element of document.querySelectorAll("[data-face]")) {
    element.classList.toggle("lit", Number(element.dataset.face) === number);
  }
  $("marks").classList.toggle("one", number !== null);
}

/** Announce an image's result to screen readers. */
function announce(subject) {
  const outcome = outcomeInWords(subject, facesOf(subject).length);
  if (subject.state === "failed") $("status").textContent = `${subject.name}: ${outcome}`;
  if (subject.state === "done") $("status").textContent = `${outcome} in ${subject.name}`;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

async function startCamera() {
  if (camera.running) return;
  notice("");
  try {
    await camera.start();
    live = { name: LIVE_NAME, state: "asking" };
    show();
    $("stop").focus();
    for await (const found of camera.answers(minFaceSize)) {
      const before = live.answer && facesOf(live).length;
      live = { name: LIVE_NAME, state: "done", ...found };
      widenConfidence(live.answer);
      showSubject();
      if (facesOf(live).length !== before) announce(live);
    }
  } catch (error) {
    if (error.name === "AbortError") return; // stopped while it was starting
    stopCamera();
    notice(asFailure(error).message);
  }
}

function stopCamera() {
  const focused = document.activeElement === $("stop");
  camera.stop();
  live = null;
  show();
  if (focused) $("camera").focus(); // the focused button is hidden now
}

async function save() {
  const button = $("download");
  if (button.ariaDisabled) return; // an image is being drawn
  button.ariaDisabled = "true"; // `disabled` would lose the focus
  notice("");
  try {
    await download(selected, facesOf(selected));
  } catch (error) {
    notice(asFailure(error).message);
  } finally {
    button.ariaDisabled = null;
  }
}

/** Show the faces that the confidence slider admits. */
function filter() {
  images.forEach(showBadge);
  showFound(live ?? selected);
}

/** Announce how many faces are shown, once the slider is at rest. */
function filtered() {
  const subject = live ?? selected;
  if (subject) announce(subject);
}

function askAgain() {
  const selectedFirst = [...images].sort((one, other) => (other === selected) - (one === selected));
  selectedFirst.forEach((image) => queue.ask(image));
}

listen($("files"), $("drop"), add, notice);
$("camera").addEventListener("click", startCamera);
$("stop").addEventListener("click", stopCamera);
$("retry").addEventListener("click", () => {
  queue.ask(selected);
  $("name").focus({ preventScroll: true }); // the button is hidden now
});
$("remove").addEventListener("click", () => remove(selected));
$("download").addEventListener("click", save);
$("json").addEventListener("toggle", () => showJson($("json"), (live ?? selected)?.answer));
$("copy").addEventListener("click", () => copy($("json").querySelector("pre"), $("copy")));
$("copy-curl").addEventListener("click", () => copy($("curl"), $("copy-curl")));

$("curl").textContent = `curl -F image=@photo.jpg ${location.origin}/predict`;
listenToOptions(filter, filtered, askAgain);
listenToKey(askAgain);
