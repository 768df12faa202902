// Asks the service about a picture, and says in words what went wrong.

import { Failure } from "./failure.js";
import { askForKey, keyHeader } from "./key.js";

const MAX_BYTES = 10 * 1024 * 1024; // Envoy lets no more pass. Where the service is set to less, it says so itself
const ACCEPTED = /^image\/(jpeg|png|webp)$/;
const TRIES = 5; // while all workers are busy, or there were too many requests

/** Throw a Failure for a file that the service would refuse, or that cannot be read. */
export async function check(file) {
  if (/hei[cf]/i.test(file.type) || /\.hei[cf]$/i.test(file.name)) {
    throw new Failure(
      "this is a HEIC photograph, which is not accepted. Share or export it as JPEG; an iPhone takes JPEG when " +
        "Settings, Camera, Formats says Most Compatible",
    );
  }
  if (file.type && !ACCEPTED.test(file.type)) {
    throw new Failure("this is no picture that is accepted. Choose JPEG, PNG or WebP");
  }
  if (file.size === 0) throw new Failure("this file is empty. Choose another, or save it again");
  if (file.size > MAX_BYTES) {
    const size = (file.size / 1024 / 1024).toFixed(1);
    throw new Failure(`this file has ${size} MiB, and at most 10 are accepted. Save it smaller, or as JPEG`);
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Failure("this cannot be read: it is a folder, or it has been moved or changed. Choose it again");
  }
}

/**
 * Find the faces in a picture (a Blob). Gives the answer and the milliseconds until it was here; throws a Failure, or
 * an AbortError when `signal` says that nobody waits any more.
 */
export async function predict(picture, minFaceSize, signal) {
  for (let left = TRIES - 1; ; left -= 1) {
    const began = performance.now();
    const response = await post(picture, minFaceSize, signal);
    if ((response.status === 503 || response.status === 429) && left > 0) {
      await pause(Number(response.headers.get("Retry-After")) || 1, signal);
      continue;
    }
    const answer = await read(response, signal);
    return { answer, milliseconds: performance.now() - began };
  }
}

async function post(picture, minFaceSize, signal) {
  try {
    return await fetch(`/predict?min_face_size=${minFaceSize}`, {
      method: "POST",
      body: picture,
      headers: { "Content-Type": picture.type || "application/octet-stream", ...keyHeader() },
      signal,
    });
  } catch {
    signal.throwIfAborted();
    throw new Failure("the service cannot be reached. Look whether you are connected, then try again");
  }
}

/** Give the answer in a response; throws a Failure in the service's words, or that somebody else has answered. */
async function read(response, signal) {
  const body = await response.json().catch(() => null);
  signal.throwIfAborted();
  if (response.status === 401) askForKey();
  if (response.ok && body?.results && body.metaData) return body;
  const id = body?.requestId ?? response.headers.get("X-Request-ID") ?? "";
  if (!response.ok && typeof body?.message === "string") throw new Failure(body.message, id);
  throw new Failure(`the answer, with status ${response.status}, is not one of this service. Try again later`, id);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * Math.min(seconds, 5));
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
