// The two sliders: which faces are shown, and how small a face may be.

// Pixels, in steps of similar ratios. The service finds no face below 12.
const SIZES = [12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 400];
const DEFAULT_SIZE = 20; // the service's default
const SETTLED = 250; // milliseconds after the last movement of a slider

const [confidence, size] = ["confidence", "size"].map((id) => document.getElementById(id));

/** Report whether a face is shown. */
export function isSure(face) {
  return face.confidence >= Number(confidence.value);
}

/** Return the smallest face to look for, in pixels. */
export function minFaceSize() {
  return SIZES[Number(size.value)];
}

/** Extend the slider down to the least confident face of an answer: the service may have a lower threshold. */
export function widenConfidence(answer) {
  const faces = answer?.results ?? [];
  const lowest = faces.reduce((least, face) => Math.min(least, face.confidence), Number(confidence.min));
  if (lowest === Number(confidence.min)) return;
  const untouched = confidence.value === confidence.min;
  confidence.min = Math.floor(lowest * 100) / 100;
  if (untouched) confidence.value = confidence.min;
  showValues();
}

/** Call `filter` when the confidence changes, `filtered` once it is at rest, and `ask` when the size has changed. */
export function listenToOptions(filter, filtered, ask) {
  size.max = SIZES.length - 1;
  size.value = SIZES.indexOf(DEFAULT_SIZE);
  for (const slider of [confidence, size]) slider.addEventListener("input", showValues);
  confidence.addEventListener("input", filter);
  confidence.addEventListener("input", onceSettled(filtered));
  size.addEventListener("change", onceSettled(ask));
  showValues();
}

function onceSettled(then) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(then, SETTLED);
  };
}

function showValues() {
  document.getElementById("confidence-value").textContent = Number(confidence.value).toFixed(3);
  document.getElementById("size-value").textContent = `${minFaceSize()} px`;
  size.setAttribute("aria-valuetext", `${minFaceSize()} pixels`);
}
