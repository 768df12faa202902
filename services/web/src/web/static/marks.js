// Boxes, landmarks and confidences on an image: as elements of the page, and painted for the download.

const BRIGHT = "#40e0ff"; // with a dark edge it is visible on any image; the color of /annotate
const DARK = "#101820";
const MAX_BOXES = 1000; // boxes on the page; more could not be told apart
const NEAR_TOP = 0.08; // of the height: no room for a label above
const FAR_RIGHT = 0.7; // of the width: a label would extend beyond the image

/** Show faces (each { number, box, landmarks, confidence }) on a layer that covers an image of width x height. */
export function showMarks(layer, faces, width, height) {
  layer.replaceChildren(...faces.slice(0, MAX_BOXES).map((face) => mark(face, width, height)));
}

function mark({ number, box, landmarks, confidence }, width, height) {
  const { upLeft, lowerRight } = box;
  const size = { x: lowerRight.x - upLeft.x, y: lowerRight.y - upLeft.y };
  const element = document.createElement("div");
  element.className = "mark";
  element.dataset.face = number;
  element.style.left = percent(upLeft.x / width);
  element.style.top = percent(upLeft.y / height);
  element.style.width = percent(size.x / width);
  element.style.height = percent(size.y / height);
  for (const point of Object.values(landmarks)) {
    const dot = document.createElement("i");
    dot.style.left = percent((point.x - upLeft.x) / size.x);
    dot.style.top = percent((point.y - upLeft.y) / size.y);
    element.append(dot);
  }
  const label = document.createElement("span");
  label.textContent = confidence.toFixed(3);
  label.classList.toggle("inside", upLeft.y < NEAR_TOP * height);
  label.classList.toggle("left", upLeft.x > FAR_RIGHT * width);
  element.append(label);
  return element;
}

function percent(share) {
  return `${100 * share}%`;
}

/** Paint the same on a canvas of the image's size. */
export function paintMarks(canvas, faces) {
  const context = canvas.getContext("2d");
  const shorter = Math.min(canvas.width, canvas.height);
  for (const { box, landmarks, confidence } of faces) {
    const { upLeft, lowerRight } = box;
    const [width, height] = [lowerRight.x - upLeft.x, lowerRight.y - upLeft.y];
    const line = Math.max(1, Math.min(shorter / 250, Math.min(width, height) / 24));
    for (const [color, thickness] of [[DARK, 2 * line], [BRIGHT, line]]) {
      context.strokeStyle = context.fillStyle = color;
      context.lineWidth = thickness;
      context.strokeRect(upLeft.x, upLeft.y, width, height);
      for (const { x, y } of Object.values(landmarks)) {
        context.beginPath();
        context.arc(x, y, line / 2 + thickness, 0, 2 * Math.PI);
        context.fill();
      }
    }
    paintLabel(context, confidence.toFixed(3), upLeft, Math.max(10, Math.min(shorter / 32, width / 4)));
  }
}

function paintLabel(context, text, { x, y }, size) {
  context.font = `600 ${size}px sans-serif`;
  const [width, height] = [context.measureText(text).width + size / 2, 1.3 * size];
  const left = Math.max(0, Math.min(x, context.canvas.width - width));
  const top = Math.max(0, y - height);
  context.fillStyle = BRIGHT;
  context.fillRect(left, top, width, height);
  context.fillStyle = DARK;
  context.textBaseline = "middle";
  context.fillText(text, left + size / 4, top + height / 2);
}
