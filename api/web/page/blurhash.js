// Decodes a BlurHash into a small canvas that stands in for a photo until its
// pixels arrive. The format: base-83 digits; the first tells the numbers of
// components, the second the largest AC value, four the mean colour, then two
// for each further component of a cosine transform.

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~';
const value = new Map([...digits].map((c, i) => [c, i]));

function number(hash, from, to) {
  let n = 0;
  for (let i = from; i < to; i++) n = n * 83 + value.get(hash[i]);
  return n;
}

const toLinear = (v) => {
  const s = v / 255;
  return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
};

const toByte = (v) => {
  const s = Math.min(1, Math.max(0, v));
  return Math.round(255 * (s <= 0.0031308 ? s * 12.92 : 1.055 * s ** (1 / 2.4) - 0.055));
};

const signedSquare = (v) => Math.sign(v) * v * v;

// parse returns the components, or null when the text is no BlurHash.
function parse(hash) {
  if (typeof hash !== 'string' || hash.length < 6) return null;
  for (const c of hash) if (!value.has(c)) return null;
  const size = number(hash, 0, 1);
  const nx = (size % 9) + 1;
  const ny = Math.floor(size / 9) + 1;
  if (hash.length !== 4 + 2 * nx * ny) return null;
  const max = (number(hash, 1, 2) + 1) / 166;
  const dc = number(hash, 2, 6);
  const parts = [[toLinear(dc >> 16), toLinear((dc >> 8) & 255), toLinear(dc & 255)]];
  for (let i = 1; i < nx * ny; i++) {
    const v = number(hash, 4 + 2 * i, 6 + 2 * i);
    parts.push([Math.floor(v / 361), Math.floor(v / 19) % 19, v % 19].map((q) => signedSquare((q - 9) / 9) * max));
  }
  return { nx, ny, parts };
}

// paint draws the hash into a canvas and reports whether it could.
export function paint(canvas, hash, width = 32, height = 32) {
  const p = parse(hash);
  const g = p && canvas.getContext('2d');
  if (!g) return false;
  canvas.width = width;
  canvas.height = height;
  const image = g.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const rgb = [0, 0, 0];
      for (let j = 0; j < p.ny; j++) {
        for (let i = 0; i < p.nx; i++) {
          const f = Math.cos((Math.PI * x * i) / width) * Math.cos((Math.PI * y * j) / height);
          const c = p.parts[j * p.nx + i];
          for (let k = 0; k < 3; k++) rgb[k] += c[k] * f;
        }
      }
      const at = 4 * (y * width + x);
      for (let k = 0; k < 3; k++) image.data[at + k] = toByte(rgb[k]);
      image.data[at + 3] = 255;
    }
  }
  g.putImageData(image, 0, 0);
  return true;
}
