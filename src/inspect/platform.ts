/**
 * What Node and browsers have in common, so that `inspect/` and `report/` need the types of neither and run in both.
 * Each is the global of the same name.
 */

interface Encoder {
  encode(text: string): Uint8Array<ArrayBuffer>;
}

interface Decoder {
  decode(bytes: Uint8Array): string;
}

interface Platform {
  readonly performance: { now(): number };
  readonly TextEncoder: new () => Encoder;
  readonly TextDecoder: new (label?: string, options?: { readonly ignoreBOM?: boolean }) => Decoder;
  /** Not in browsers. */
  readonly setImmediate?: (callback: () => void) => unknown;
  readonly MessageChannel: new () => {
    readonly port1: { addEventListener(type: 'message', listener: () => void): void; start(): void };
    readonly port2: { postMessage(message: null): void };
  };
}

export const { performance, TextEncoder, TextDecoder, setImmediate, MessageChannel }: Platform =
  globalThis as unknown as Platform;
