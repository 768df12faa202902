// What went wrong, in words for people.

/** Something that the person at the page can understand, and perhaps mend. */
export class Failure extends Error {
  constructor(message, requestId = "") {
    super(message.charAt(0).toUpperCase() + message.slice(1).replace(/\.?$/, "."));
    this.requestId = requestId;
  }
}

/** Give a Failure as it is. Anything else is a fault of this page: the console has it, and the Failure says so. */
export function asFailure(error) {
  if (error instanceof Failure) return error;
  console.error(error);
  return new Failure("this page is at fault. Load it again, then try again");
}
