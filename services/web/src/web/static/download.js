// Saves a picture with its faces drawn on it.

import { paintMarks } from "./marks.js";
import { drawUpright } from "./upright.js";

const KEPT = 60_000; // milliseconds, in which the browser has begun to save the file

/** Save a picture with all its pixels and these faces, as a PNG. False if the browser cannot draw one so large. */
export async function download({ file, name, orientation }, faces) {
  const canvas = document.createElement("canvas");
  drawUpright(canvas, await createImageBitmap(file), orientation);
  paintMarks(canvas, faces);
  const drawn = await new Promise((resolve) => canvas.toBlob(resolve));
  if (!drawn) return false;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(drawn);
  link.download = `${name.replace(/\.[^.]*$/, "")}-faces.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT);
  return true;
}
