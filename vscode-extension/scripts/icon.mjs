// Draws images/icon.png: a line of code with a hole that is being filled, from blocks that settle. No dependencies.
import { deflateSync } from "node:zlib";
import { writeFileSync } from "node:fs";

const SIZE = 128, SCALE = 4;
const BACK = [32, 36, 44], CODE = [140, 150, 168], SETTLED = [86, 180, 233], MASK = [72, 80, 96];

/** Rounded rectangles, later ones on top: x, y, width, height, radius, colour. */
const shapes = [
  [0, 0, 128, 128, 24, BACK],
  [20, 28, 40, 12, 6, CODE], [68, 28, 24, 12, 6, CODE],
  [20, 58, 18, 12, 6, CODE],
  [46, 52, 18, 24, 5, SETTLED], [68, 52, 18, 24, 5, MASK], [90, 52, 18, 24, 5, SETTLED],
  [20, 88, 56, 12, 6, CODE],
];

function inside(x, y, [left, top, width, height, radius]) {
  const dx = Math.max(left + radius - x, 0, x - (left + width - radius));
  const dy = Math.max(top + radius - y, 0, y - (top + height - radius));
  return dx * dx + dy * dy <= radius * radius;
}

const rows = [];
for (let y = 0; y < SIZE; y++) {
  const row = [0];
  for (let x = 0; x < SIZE; x++) {
    const sum = [0, 0, 0, 0];
    for (let n = 0; n < SCALE * SCALE; n++) {
      const at = [x + ((n % SCALE) + 0.5) / SCALE, y + (Math.floor(n / SCALE) + 0.5) / SCALE];
      const shape = shapes.findLast((one) => inside(...at, one));
      if (shape) [...shape[5], 255].forEach((value, i) => (sum[i] += value));
    }
    const covered = sum[3] / 255;
    row.push(...sum.slice(0, 3).map((value) => (covered ? Math.round(value / covered) : 0)), Math.round(sum[3] / SCALE ** 2));
  }
  rows.push(Buffer.from(row));
}

const table = Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name), data]);
  let crc = 0xffffffff;
  for (const byte of body) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE((crc ^ 0xffffffff) >>> 0, body.length + 4);
  return out;
}
const header = Buffer.alloc(13);
header.writeUInt32BE(SIZE, 0);
header.writeUInt32BE(SIZE, 4);
header.set([8, 6, 0, 0, 0], 8);
const png = Buffer.concat([
  Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
  chunk("IHDR", header),
  chunk("IDAT", deflateSync(Buffer.concat(rows), { level: 9 })),
  chunk("IEND", Buffer.alloc(0)),
]);
writeFileSync(new URL("../images/icon.png", import.meta.url), png);
