// The texts about an image, for its caption and for screen readers.

export function countInWords(count) {
  return count === 1 ? "1 face" : `${count || "no"} faces`;
}

/** Describe the result for an image or a frame of the camera, of which `shown` faces are shown. */
export function outcomeInWords({ state, answer, failure }, shown) {
  if (state === "waiting") return "waiting…";
  if (state === "asking") return "looking for faces…";
  if (state === "failed") return failure.message;
  const all = answer.results.length;
  return shown === all ? `${countInWords(all)} found` : `${shown} of ${countInWords(all)} shown`;
}

/** Explain why the list of faces is empty. */
export function nothingToList(answer) {
  return answer.results.length > 0
    ? "All faces are below the chosen confidence."
    : "No face was found. To find small ones, look for smaller faces.";
}
