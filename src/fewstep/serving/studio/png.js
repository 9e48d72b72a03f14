// @ts-check
/** Texts inside PNG files: the record that every picture carries, and the studio's own state beside it. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CRC = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {Uint8Array} bytes */
function checksum(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** @param {Uint8Array} file */
export function isPng(file) {
  return SIGNATURE.every((byte, i) => file[i] === byte);
}

/**
 * The uncompressed texts of a PNG by keyword.
 * @param {Uint8Array} file
 * @returns {Map<string, string>}
 */
export function texts(file) {
  const found = new Map();
  if (!isPng(file)) return found;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 8; at + 12 <= file.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...file.subarray(at + 4, at + 8));
    const data = file.subarray(at + 8, at + 8 + length);
    if (kind === "IEND") break;
    const end = data.indexOf(0);
    if (kind === "tEXt" && end > 0) {
      found.set(new TextDecoder("latin1").decode(data.subarray(0, end)), new TextDecoder("latin1").decode(data.subarray(end + 1)));
    } else if (kind === "iTXt" && end > 0 && data[end + 1] === 0) {
      const language = data.indexOf(0, end + 3);
      const translated = data.indexOf(0, language + 1);
      found.set(new TextDecoder().decode(data.subarray(0, end)), new TextDecoder().decode(data.subarray(translated + 1)));
    }
    at += 12 + length;
  }
  return found;
}

/**
 * A PNG with one more text, before its end.
 * @param {Uint8Array} file
 * @param {string} keyword of Latin letters
 * @param {string} text ASCII
 * @returns {Uint8Array}
 */
export function withText(file, keyword, text) {
  const body = new TextEncoder().encode(`tEXt${keyword}\0${text}`);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(4 + body.length, checksum(body));
  const end = file.length - 12;
  const whole = new Uint8Array(file.length + chunk.length);
  whole.set(file.subarray(0, end));
  whole.set(chunk, end);
  whole.set(file.subarray(end), end + chunk.length);
  return whole;
}
