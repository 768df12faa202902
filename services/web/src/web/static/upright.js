// Draws a file as the service sees it: upright, its first frame, on white.
//
// The service undoes the EXIF orientation in all formats and reports it. Browsers differ: Chromium undoes it in JPEG and
// PNG, but not in WebP.

// The arguments of setTransform that put raw pixels upright on a canvas of the given size, by EXIF orientation.
const UNDO = {
  1: () => [1, 0, 0, 1, 0, 0],
  2: (width) => [-1, 0, 0, 1, width, 0],
  3: (width, height) => [-1, 0, 0, -1, width, height],
  4: (width, height) => [1, 0, 0, -1, 0, height],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (width) => [0, 1, -1, 0, width, 0],
  7: (width, height) => [0, -1, -1, 0, width, height],
  8: (width, height) => [0, -1, 1, 0, 0, height],
};
const SIDEWAYS = 5; // from this orientation on, width and height are swapped

// Two pixels side by side, with an orientation that puts one above the other.
const PROBES = {
  "image/png":
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAGmVYSWZNTQAqAAAACAABARIAAwAAAAEABgAAAAAAANZnS2kAAAALSURBVHicY2BgAAAAAwABuK06YwAAAABJRU5ErkJggg==",
  "image/webp":
    "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=",
};

/** Draw a bitmap on a canvas with sides of at most `longest` pixels, undoing `orientation`. */
export function drawUpright(canvas, bitmap, orientation, longest = Infinity) {
  const sideways = orientation >= SIDEWAYS;
  const [width, height] = sideways ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  const scale = Math.min(1, longest / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.setTransform(...UNDO[orientation](canvas.width, canvas.height));
  context.drawImage(bitmap, 0, 0, ...(sideways ? [canvas.height, canvas.width] : [canvas.width, canvas.height]));
  context.resetTransform();
}

/** Return the orientation that the browser does not undo itself: that of the answer, or 1 for none. */
export async function leftToUndo(file, orientation) {
  if (orientation === 1) return 1;
  const start = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  return (await turnsItself(typeOf(start))) ? 1 : orientation;
}

function typeOf(start) {
  const text = String.fromCharCode(...start);
  if (text.startsWith("\x89PNG")) return "image/png";
  return text.startsWith("WEBP", 8) ? "image/webp" : "image/jpeg";
}

async function turnsItself(type) {
  if (type === "image/jpeg") return true; // all browsers do
  const bytes = Uint8Array.from(atob(PROBES[type]), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type }));
  return bitmap.height > bitmap.width;
}
