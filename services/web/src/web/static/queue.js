// Sends images to the service, a few at a time.

import { asFailure } from "./failure.js";
import { check, predict } from "./service.js";
import { leftToUndo } from "./upright.js";

const AT_A_TIME = 4;

/** An image on the page: `state` is waiting, asking, done (with `answer`, `milliseconds`) or failed (with `failure`). */
export class Upload {
  constructor(file) {
    this.file = file;
    this.name = file.name || "picture";
    this.state = "waiting";
    this.orientation = 1; // the EXIF orientation that the browser does not undo
    this.control = new AbortController();
  }
}

/** The queue of images. `minFaceSize()` returns the option; `changed(image)` is called when an image's state changes. */
export class Queue {
  constructor(minFaceSize, changed) {
    this.minFaceSize = minFaceSize;
    this.changed = changed;
    this.waiting = [];
    this.underWay = 0;
  }

  /** Send an image, even if it was sent before; a pending answer is dropped. */
  ask(image) {
    this.drop(image);
    image.control = new AbortController();
    image.state = "waiting";
    image.failure = null;
    this.waiting.push(image);
    this.changed(image);
    this.#next();
  }

  /** Drop an image. */
  drop(image) {
    image.control.abort();
    this.waiting = this.waiting.filter((other) => other !== image);
  }

  #next() {
    while (this.underWay < AT_A_TIME && this.waiting.length > 0) {
      this.underWay += 1;
      this.#examine(this.waiting.shift()).finally(() => {
        this.underWay -= 1;
        this.#next();
      });
    }
  }

  async #examine(image) {
    const { file, control } = image;
    image.state = "asking";
    this.changed(image);
    const outcome = await answerFor(file, this.minFaceSize(), control.signal);
    if (control.signal.aborted) return;
    Object.assign(image, outcome);
    this.changed(image);
  }
}

async function answerFor(file, minFaceSize, signal) {
  try {
    await check(file);
    const found = await predict(file, minFaceSize, signal);
    const orientation = await leftToUndo(file, found.answer.metaData.orientation);
    return { state: "done", failure: null, orientation, ...found };
  } catch (error) {
    if (signal.aborted) return null; // dropped
    return { state: "failed", failure: asFailure(error), answer: null };
  }
}
