/**
 * The members of `node:http` that are used at run time. Importing that module evaluates all of its exports, and the one
 * named `WebSocket` loads Node's whole HTTP client with HTTP/2, which takes a tenth of the start and 15 MB.
 */
export const { createServer, METHODS, STATUS_CODES } = process.getBuiltinModule('node:http');
