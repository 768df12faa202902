// The two sliders: which faces are shown, and which are looked for.

// Pixels, in steps that look alike. The service looks for no face below 12.
const SIZES = [12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 400];
const DEFAULT_SIZE = 20; // the service's, where it is not set otherwise
const SETTLED = 250; // milliseconds after the slider was moved, let go, or a key was pressed

const [confidence, size] = ["confidence", "size"].map((id) => document.getElementById(id));

/** Whether a face is to be shown. */
export function isSure(face) {
  return face.confidence >= Number(confidence.value);
}

/** The smallest face that is to be looked for, in pixels. */
export function minFaceSize() {
  return SIZES[Number(size.value)];
}

/** Let the slider begin below the least confident face of an answer: another service may have another threshold. */
export function widenConfidence(answer) {
  const faces = answer?.results ?? [];
  const lowest = faces.reduce((least, face) => Math.min(least, face.confidence), Number(confidence.min));
  if (lowest === Number(confidence.min)) return;
  const untouched = confidence.value === confidence.min;
  confidence.min = Math.floor(lowest * 100) / 100;
  if (untouched) confidence.value = confidence.min;
  showValues();
}

/** Call `filter` when other faces are to be shown, `filtered` after that, and `ask` when others are to be looked for. */
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
