// The page: which pictures there are, which is shown, and what the buttons and sliders do.

import { Camera } from "./camera.js";
import { download } from "./download.js";
import { asFailure } from "./failure.js";
import { listen } from "./intake.js";
import { listenToKey } from "./key.js";
import { showMarks } from "./marks.js";
import { isSure, listenToOptions, minFaceSize, widenConfidence } from "./options.js";
import { copy, showFaces, showJson, showTimes } from "./panel.js";
import { Picture, Queue } from "./queue.js";
import { makeItem, showItem } from "./strip.js";
import { drawUpright } from "./upright.js";
import { countInWords, nothingToList, outcomeInWords } from "./words.js";

const VIEW_PIXELS = 2048; // the longer side of what is shown; the download has all pixels
const THUMB_PIXELS = 160;
const LIVE_NAME = "the camera's picture";

const $ = (id) => document.getElementById(id);
const pictures = [];
const camera = new Camera($("live"));
let live = null; // what the camera saw last, in the place of a picture
let selected = null;
let lit = null; // the number of the face that is pointed at

const queue = new Queue(minFaceSize, (picture) => {
  if (picture.state === "done" || picture.state === "failed") draw(picture);
  widenConfidence(picture.answer);
  showBadge(picture);
  if (picture === selected) showSubject();
  announce(picture);
});

/** Number the faces of an answer, and keep those that the slider asks for. */
function facesOf(subject) {
  const all = subject?.answer?.results ?? [];
  return all.map((face, index) => ({ number: index + 1, ...face })).filter(isSure);
}

function add(files) {
  stopCamera();
  notice("");
  const added = files.map((file) => new Picture(file));
  for (const picture of added) {
    picture.thumb = document.createElement("canvas");
    picture.item = $("strip").appendChild(makeItem(picture, select));
  }
  pictures.push(...added);
  if (added.length > 0) select(added[0]);
  added.forEach((picture) => queue.ask(picture));
  $("name").focus({ preventScroll: true });
}

function select(picture) {
  selected = picture;
  $("view").width = $("view").height = 0;
  if (picture) draw(picture);
  show();
}

function remove(picture) {
  queue.drop(picture);
  picture.item.remove();
  const index = pictures.indexOf(picture);
  pictures.splice(index, 1);
  select(pictures[index] ?? pictures[index - 1] ?? null);
  (selected ? $("name") : $("files")).focus({ preventScroll: true });
}

/** Draw a picture's thumbnail, and the picture itself if it is the one to be shown. */
async function draw(picture) {
  const bitmap = await createImageBitmap(picture.file).catch(() => null);
  if (!bitmap) return; // there is nothing to see; what the service says of it is shown
  drawUpright(picture.thumb, bitmap, picture.orientation, THUMB_PIXELS);
  if (picture === selected) {
    drawUpright($("view"), bitmap, picture.orientation, VIEW_PIXELS);
    showSubject();
  }
  bitmap.close();
}

/** Bring the whole page up to date. */
function show() {
  $("strip").hidden = Boolean(live) || pictures.length < 2;
  $("camera").hidden = Boolean(live);
  pictures.forEach(showBadge);
  showSubject();
}

function showBadge(picture) {
  showItem(picture, facesOf(picture).length, picture === selected);
}

/** Show what the camera sees, or else the picture that is selected. */
function showSubject() {
  const subject = live ?? selected;
  document.body.dataset.state = subject ? "picture" : "empty";
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

/** Show of a picture what the confidence slider has a say in. */
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

/** Make a face stand out, in the list and on the picture; null: none. */
function light(number) {
  lit = number;
  for (const element of document.querySelectorAll("[data-face]")) {
    element.classList.toggle("lit", Number(element.dataset.face) === number);
  }
  $("marks").classList.toggle("one", number !== null);
}

/** Say aloud what became of a picture. */
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
    if (error.name === "AbortError") return; // it was stopped while it started
    stopCamera();
    notice(asFailure(error).message);
  }
}

function stopCamera() {
  const focused = document.activeElement === $("stop");
  camera.stop();
  live = null;
  show();
  if (focused) $("camera").focus(); // what had the focus is hidden now
}

async function save() {
  const button = $("download");
  if (button.ariaDisabled) return; // a picture is being drawn
  button.ariaDisabled = "true"; // and not disabled, which would lose the focus
  notice("");
  try {
    await download(selected, facesOf(selected));
  } catch (error) {
    notice(asFailure(error).message);
  } finally {
    button.ariaDisabled = null;
  }
}

/** Show the faces that the confidence slider asks for. */
function filter() {
  pictures.forEach(showBadge);
  showFound(live ?? selected);
}

/** Say aloud how many those are, once the slider has come to rest. */
function filtered() {
  const subject = live ?? selected;
  if (subject) announce(subject);
}

function askAgain() {
  const selectedFirst = [...pictures].sort((one, other) => (other === selected) - (one === selected));
  selectedFirst.forEach((picture) => queue.ask(picture));
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
