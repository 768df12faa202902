// What the page says of a picture, in its caption and aloud.

export function countInWords(count) {
  return count === 1 ? "1 face" : `${count || "no"} faces`;
}

/** Say what has become of a picture, or of what the camera sees, when so many of its faces are shown. */
export function outcomeInWords({ state, answer, failure }, shown) {
  if (state === "waiting") return "waiting…";
  if (state === "asking") return "looking for faces…";
  if (state === "failed") return failure.message;
  const all = answer.results.length;
  return shown === all ? `${countInWords(all)} found` : `${shown} of ${countInWords(all)} shown`;
}

/** Say why a list of faces is empty. */
export function nothingToList(answer) {
  return answer.results.length > 0
    ? "All faces are below the confidence that you ask for."
    : "No face was found. If there are small ones, look for smaller faces.";
}
