// Sends an image to the service, and describes what went wrong.

import { Failure } from "./failure.js";
import { askForKey, keyHeader } from "./key.js";

const MAX_BYTES = 10 * 1024 * 1024; // Envoy's limit; a service with a lower limit reports it itself
const ACCEPTED = /^image\/(jpeg|png|webp)$/;
const TRIES = 5; // while the service is busy or its rate limit is exceeded

/** Throw a Failure for a file that the service would refuse, or that cannot be read. */
export async function check(file) {
  if (/hei[cf]/i.test(file.type) || /\.hei[cf]$/i.test(file.name)) {
    throw new Failure(
      "this is a HEIC photograph, which is not accepted. Share or export it as JPEG; an iPhone takes JPEG when " +
        "Settings, Camera, Formats says Most Compatible",
    );
  }
  if (file.type && !ACCEPTED.test(file.type)) {
    throw new Failure("this format is not accepted. Choose JPEG, PNG or WebP");
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
 * Find the faces in an image (a Blob). Returns the answer and the milliseconds until it arrived. Throws a Failure, or an
 * AbortError if `signal` aborts.
 */
export async function predict(image, minFaceSize, signal) {
  for (let left = TRIES - 1; ; left -= 1) {
    const began = performance.now();
    const response = await post(image, minFaceSize, signal);
    if ((response.status === 503 || response.status === 429) && left > 0) {
      await pause(Number(response.headers.get("Retry-After")) || 1, signal);
      continue;
    }
    const answer = await read(response, signal);
    return { answer, milliseconds: performance.now() - began };
  }
}

async function post(image, minFaceSize, signal) {
  try {
    return await fetch(`/predict?min_face_size=${minFaceSize}`, {
      method: "POST",
      body: image,
      headers: { "Content-Type": image.type || "application/octet-stream", ...keyHeader() },
      signal,
    });
  } catch {
    signal.throwIfAborted();
    throw new Failure("the service cannot be reached. Check your connection, then try again");
  }
}

/** Return the answer in a response. Throws a Failure with the service's message, or if another server responded. */
async function read(response, signal) {
  const body = await response.json().catch(() => null);
  signal.throwIfAborted();
  if (response.status === 401) askForKey();
  if (response.ok && body?.results && body.metaData) return body;
  const id = body?.requestId ?? response.headers.get("X-Request-ID") ?? "";
  if (!response.ok && typeof body?.message === "string") throw new Failure(body.message, id);
  throw new Failure(`the response, with status ${response.status}, is not from this service. Try again later`, id);
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
