/** What is known of the gzip file that an image came in. */
export interface GzipFacts {
  /** Bytes of the file. */
  readonly fileBytes: number;
  /** Its last four bytes as a little-endian number, which Xen takes for the size of the image. */
  readonly sizeWord: number;
  /** What its first member unpacks to, in bytes. Xen unpacks no other. */
  readonly firstMemberBytes: number;
}
