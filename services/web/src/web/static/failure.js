// Errors with messages for people.

/** An error that the user can understand, and perhaps fix. */
export class Failure extends Error {
  constructor(message, requestId = "") {
    super(message.charAt(0).toUpperCase() + message.slice(1).replace(/\.?$/, "."));
    this.requestId = requestId;
  }
}

/** Return a Failure unchanged. Anything else is a bug of this page: log it, and return a Failure that says so. */
export function asFailure(error) {
  if (error instanceof Failure) return error;
  console.error(error);
  return new Failure("this page has a bug. Reload it, then try again");
}
