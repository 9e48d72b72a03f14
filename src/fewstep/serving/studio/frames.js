// @ts-check
/** The live wire's frames: the length of a JSON head (4 bytes, little-endian), the head, the pictures one by one. */

/**
 * @typedef {{ name: string, kind: "file" | "rgba", width?: number, height?: number, data: Uint8Array }} Picture
 * @typedef {{ bytes: number, id: string, seed: number, recognised: string | null, confidence: number | null }} Part
 * @typedef {{
 *   seq: number, model?: string, steps?: number, network_evaluations?: number, unknown_words?: string[],
 *   nearest_captions?: [string, number][], unread_prompt?: string, timings?: Record<string, number>, parts?: Part[], status?: number,
 *   error?: { message: string, code: string | null, param: string | null }, retry_ms?: number
 * }} Head
 * @typedef {{ head: Head, pictures: Blob[] }} Answer
 */

/**
 * A frame.
 * @param {Record<string, unknown>} head
 * @param {Picture[]} pictures
 * @returns {Uint8Array}
 */
export function pack(head, pictures) {
  const parts = pictures.map(({ data, ...rest }) => ({ ...rest, bytes: data.length }));
  const text = new TextEncoder().encode(JSON.stringify({ ...head, parts }));
  const size = pictures.reduce((sum, { data }) => sum + data.length, 4 + text.length);
  const frame = new Uint8Array(size);
  new DataView(frame.buffer).setUint32(0, text.length, true);
  frame.set(text, 4);
  let at = 4 + text.length;
  for (const { data } of pictures) {
    frame.set(data, at);
    at += data.length;
  }
  return frame;
}

/**
 * What a frame of the server's says.
 * @param {ArrayBuffer} frame
 * @returns {Answer}
 */
export function unpack(frame) {
  const length = new DataView(frame).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(frame, 4, length)));
  const pictures = [];
  let at = 4 + length;
  for (const { bytes } of head.parts ?? []) {
    pictures.push(new Blob([frame.slice(at, at + bytes)], { type: "image/png" }));
    at += bytes;
  }
  return { head, pictures };
}
