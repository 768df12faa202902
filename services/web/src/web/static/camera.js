// Sends frames of the camera, one after another.

import { Failure } from "./failure.js";
import { predict } from "./service.js";

const QUALITY = 0.85; // of the JPEG that is sent
const APART = 100; // milliseconds between frames at least, so that one page does not keep all workers busy
const CONSTRAINTS = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" };

const REFUSED = {
  NotAllowedError: "the camera was not allowed. Allow it for this page in the browser's settings, then try again",
  NotFoundError: "there is no camera. Choose pictures instead",
  NotReadableError: "the camera is in use by another program. Close that, then try again",
};

/** The camera, shown in a video element; off until `start`. */
export class Camera {
  #control = null; // aborts pending work when the camera stops
  #stream = null;

  constructor(video) {
    this.video = video;
  }

  get running() {
    return this.#control !== null;
  }

  /** Start the camera and show it. Throws a Failure, or an AbortError if it was stopped meanwhile. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Failure(
        "this browser allows the camera only on pages from https or localhost. Choose pictures instead",
      );
    }
    this.#control = new AbortController();
    const { signal } = this.#control;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: CONSTRAINTS, audio: false });
      if (signal.aborted) switchOff(stream); // stopped while the permission prompt was open
      signal.throwIfAborted();
      this.#stream = this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      signal.throwIfAborted(); // this attempt is over; there may be another by now
      throw refusal(error);
    }
  }

  /** Send one frame after another until `stop`; yields { answer, milliseconds }. Throws a Failure. */
  async *answers(minFaceSize) {
    const { signal } = this.#control;
    const track = this.#stream.getVideoTracks()[0];
    while (!signal.aborted) {
      if (track.readyState === "ended") throw new Failure("the camera has been disconnected. Connect it, then try again");
      const began = performance.now();
      try {
        yield await predict(await this.#frame(), minFaceSize(), signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      await rest(began);
    }
  }

  /** Stop the camera; its light goes off too. */
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

/** Wait until the next frame is due and the page is visible. */
async function rest(began) {
  await new Promise((resolve) => setTimeout(resolve, began + APART - performance.now()));
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

function switchOff(stream) {
  stream.getTracks().forEach((track) => track.stop());
}
