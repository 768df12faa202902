// The panel beside the image: the list of faces, the times, the JSON.

const MAX_LISTED = 200; // faces in the list; the JSON has all
const STEPS = {
  queue: "Waiting in line",
  decode: "Decoding",
  pyramid: "Scaling",
  pnet: "P-Net: candidates",
  boxes: "Boxes",
  nms: "Overlaps",
  crops: "Cutting out",
  rnet: "R-Net: refining",
  onet: "O-Net: landmarks",
};

/** List the faces; `light(number)` is called for the face that is pointed at or focused, and with null afterwards. */
export function showFaces(list, faces, light) {
  const shown = faces.slice(0, MAX_LISTED);
  while (list.children.length > shown.length) list.lastChild.remove();
  while (list.children.length < shown.length) list.append(makeFace(light));
  shown.forEach((face, index) => fillFace(list.children[index], face));
}

function makeFace(light) {
  const item = document.createElement("li");
  const button = make("button", { type: "button" });
  button.append(...["number", "confidence", "place"].map((className) => make("span", { className })));
  const on = () => light(Number(item.dataset.face));
  for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, on);
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => light(null));
  item.append(button);
  return item;
}

function fillFace(item, { number, box, confidence }) {
  const [x, y] = [Math.round(box.upLeft.x), Math.round(box.upLeft.y)];
  const [width, height] = [Math.round(box.lowerRight.x - box.upLeft.x), Math.round(box.lowerRight.y - box.upLeft.y)];
  const button = item.firstChild;
  const texts = [String(number), confidence.toFixed(3), `${width} × ${height} px at ${x}, ${y}`];
  texts.forEach((text, index) => { button.children[index].textContent = text; });
  button.setAttribute(
    "aria-label",
    `Face ${number}: confidence ${texts[1]}, ${width} by ${height} pixels, at ${x} from the left and ${y} from the top`,
  );
  item.dataset.face = number;
}

/** Show the duration of each step in the worker, and of the whole request in the browser. */
export function showTimes(section, answer, milliseconds) {
  const { milliseconds: steps = {}, worker, engine, model } = answer.metaData;
  const longest = Math.max(...Object.values(steps), 0.1);
  const sum = Object.values(steps).reduce((one, other) => one + other, 0);
  section.querySelector("#round-trip").replaceChildren(
    make("strong", { textContent: `${milliseconds.toFixed(0)} ms` }),
    " until the answer arrived, ",
    make("strong", { textContent: `${sum.toFixed(0)} ms` }),
    " of it in the worker",
  );
  section.querySelector("#steps").replaceChildren(
    ...inOrder(steps).map(([name, value]) => row(STEPS[name] ?? name, value, value / longest)),
  );
  section.querySelector("#worker").textContent = `${model} on ${engine}, worker ${worker}`;
}

/** Sort the steps by their order in the worker; unknown steps come last. */
function inOrder(steps) {
  const place = (name) => (name in STEPS ? Object.keys(STEPS).indexOf(name) : Infinity);
  return Object.entries(steps).sort(([one], [other]) => place(one) - place(other));
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function row(name, milliseconds, share) {
  const line = document.createElement("tr");
  const head = make("th", { scope: "row", textContent: name });
  const bar = document.createElement("i");
  bar.style.width = `${100 * share}%`;
  line.append(head, line.insertCell(), line.insertCell());
  line.cells[1].append(bar);
  line.cells[2].textContent = milliseconds.toFixed(1);
  return line;
}

/** Show the answer as JSON if the section is open; with many faces it is long. */
export function showJson(details, answer) {
  details.querySelector("pre").textContent = details.open ? JSON.stringify(answer, null, 2) : "";
}

/** Copy an element's text, or select it where the browser offers no clipboard (plain HTTP). */
export async function copy(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(element);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}
