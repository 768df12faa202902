// Asks about pictures, a few at a time; the others wait.

import { asFailure } from "./failure.js";
import { check, predict } from "./service.js";
import { leftToUndo } from "./upright.js";

const AT_A_TIME = 4;

/** A picture on the page: `state` is waiting, asking, done (with `answer` and `milliseconds`) or failed (`failure`). */
export class Picture {
  constructor(file) {
    this.file = file;
    this.name = file.name || "picture";
    this.state = "waiting";
    this.orientation = 1; // what the browser leaves to undo
    this.control = new AbortController();
  }
}

/** The line of pictures. `minFaceSize()` gives the option; `changed(picture)` is called when one has another state. */
export class Queue {
  constructor(minFaceSize, changed) {
    this.minFaceSize = minFaceSize;
    this.changed = changed;
    this.waiting = [];
    this.underWay = 0;
  }

  /** Ask about a picture, again if need be: an answer that is still under way will not be heard. */
  ask(picture) {
    this.drop(picture);
    picture.control = new AbortController();
    picture.state = "waiting";
    picture.failure = null;
    this.waiting.push(picture);
    this.changed(picture);
    this.#next();
  }

  /** Forget a picture. */
  drop(picture) {
    picture.control.abort();
    this.waiting = this.waiting.filter((other) => other !== picture);
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

  async #examine(picture) {
    const { file, control } = picture;
    picture.state = "asking";
    this.changed(picture);
    const outcome = await answerFor(file, this.minFaceSize(), control.signal);
    if (control.signal.aborted) return;
    Object.assign(picture, outcome);
    this.changed(picture);
  }
}

async function answerFor(file, minFaceSize, signal) {
  try {
    await check(file);
    const found = await predict(file, minFaceSize, signal);
    const orientation = await leftToUndo(file, found.answer.metaData.orientation);
    return { state: "done", failure: null, orientation, ...found };
  } catch (error) {
    if (signal.aborted) return null; // nobody waits for it
    return { state: "failed", failure: asFailure(error), answer: null };
  }
}
