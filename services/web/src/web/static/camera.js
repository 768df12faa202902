// Sends still frames of the camera, one after the other.

import { Failure } from "./failure.js";
import { predict } from "./service.js";

const QUALITY = 0.85; // of the JPEG that is sent
const APART = 100; // milliseconds from one frame to the next, at least: one page is not to keep all workers busy
const WISH = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" };

const REFUSED = {
  NotAllowedError: "the camera was not allowed. Allow it for this page in the browser's settings, then try again",
  NotFoundError: "there is no camera here. Choose pictures instead",
  NotReadableError: "the camera is in use by another program. Close that, then try again",
};

/** The camera, shown in a video element; it is off until `start`. */
export class Camera {
  #control = null; // aborts what is under way when the camera stops
  #stream = null;

  constructor(video) {
    this.video = video;
  }

  get running() {
    return this.#control !== null;
  }

  /** Switch the camera on and show what it sees. Throws a Failure that says why not, or an AbortError if it was stopped. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Failure(
        "this browser gives the camera only to pages that come over https or from localhost. Choose pictures instead",
      );
    }
    this.#control = new AbortController();
    const { signal } = this.#control;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: WISH, audio: false });
      if (signal.aborted) switchOff(stream); // it was stopped while its owner was asked for leave
      signal.throwIfAborted();
      this.#stream = this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      signal.throwIfAborted(); // what became of this attempt concerns nobody: there may be another by now
      throw refusal(error);
    }
  }

  /** Ask about one frame after the other, until `stop`; gives each as { answer, milliseconds }. Throws a Failure. */
  async *answers(minFaceSize) {
    const { signal } = this.#control;
    const unplugged = this.#stream.getVideoTracks()[0];
    while (!signal.aborted) {
      if (unplugged.readyState === "ended") throw new Failure("the camera has gone. Connect it, then try again");
      const began = performance.now();
      try {
        yield await predict(await this.#frame(), minFaceSize(), signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      await rest(began);
    }
  }

  /** Switch the camera off, its light too. */
  stop() {
    this.#control?.abort();
    this.#control = null;
    if (this.#stream) switchOff(this.#stream);
    this.#stream = this.video.srcObject = null;
  }

  #frame() {
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  }
}

function refusal(error) {
  if (!(error.name in REFUSED)) console.error(error);
  return new Failure(REFUSED[error.name] ?? "the camera cannot be used. Choose pictures instead");
}

/** Wait until the next frame is due, and somebody can see what becomes of it. */
async function rest(began) {
  await new Promise((resolve) => setTimeout(resolve, began + APART - performance.now()));
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

function switchOff(stream) {
  stream.getTracks().forEach((track) => track.stop());
}
