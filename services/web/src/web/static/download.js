// Saves an image with its faces drawn on it.

import { Failure } from "./failure.js";
import { paintMarks } from "./marks.js";
import { drawUpright } from "./upright.js";

const KEPT = 60_000; // milliseconds; the browser has begun to save the file by then

/** Save an image in full resolution with these faces, as a PNG. Throws a Failure if the browser cannot draw it. */
export async function download({ file, name, orientation }, faces) {
  const drawn = await paint(file, orientation, faces);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(drawn);
  link.download = `${name.replace(/\.[^.]*$/, "")}-faces.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT);
}

async function paint(file, orientation, faces) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Failure("this picture cannot be drawn: its file has been moved or changed, or is too large. Choose it again");
  });
  try {
    const canvas = document.createElement("canvas");
    drawUpright(canvas, bitmap, orientation);
    paintMarks(canvas, faces);
    const drawn = await new Promise((resolve) => canvas.toBlob(resolve));
    if (!drawn) throw new Failure("this browser cannot draw a picture of this size");
    return drawn;
  } finally {
    bitmap.close();
  }
}
