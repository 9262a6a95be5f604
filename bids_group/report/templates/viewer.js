// The viewer of the slices. Nothing is unpacked before a viewer is opened.

const POSITIVE = ["#7a0403", "#d7301f", "#fc8d59", "#fdcc8a", "#fff7bc"];
const NEGATIVE = ["#08306b", "#2171b5", "#4292c6", "#9ecae1", "#e0f3db"];
const COLOUR_LEVELS = 128;
const FADED_OPACITY = 0.85; // of the whole map, where it is at least
const FADE_FRACTION = 0.5; // of the colours' limit; weaker voxels fade out
const PIXELS_PER_MM = 3;
const AXES = [[1, 2], [0, 2], [0, 1]]; // across and upwards, of the slices along x, y and z
const ENDS = [["L", "R"], ["P", "A"], ["I", "S"]];

const unpacked = new Map();

function unpack(id) {
  if (!unpacked.has(id)) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(id, new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)));
  }
  return unpacked.get(id);
}

function isSet(bits, position) {
  return (bits[position >> 3] >> (position & 7)) & 1;
}

function mixColours(stops) {
  const parts = stops.map((stop) => [1, 3, 5].map((start) => parseInt(stop.slice(start, start + 2), 16)));
  return Array.from({ length: COLOUR_LEVELS }, (_, level) => {
    const place = (level / (COLOUR_LEVELS - 1)) * (stops.length - 1);
    const lower = Math.min(Math.floor(place), stops.length - 2);
    return parts[lower].map((part, channel) => part + (parts[lower + 1][channel] - part) * (place - lower));
  });
}

const COLOURS = { positive: mixColours(POSITIVE), negative: mixColours(NEGATIVE) };

function chooseColour(value, limit) {
  const level = Math.min(1, Math.abs(value) / limit) * (COLOUR_LEVELS - 1);
  return (value < 0 ? COLOURS.negative : COLOURS.positive)[Math.round(level)];
}

function transform(matrix, point) {
  return [0, 1, 2].map((row) => matrix[row][3] + point.reduce((sum, part, axis) => sum + matrix[row][axis] * part, 0));
}

function paint(width, height, setPixel) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let row = 0; row < height; row++) {
    // The first row of an image is the highest.
    for (let column = 0; column < width; column++) setPixel(image.data, 4 * ((height - 1 - row) * width + column), column, row);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

class Viewer {
  constructor(box) {
    this.box = box;
    this.find = (name) => box.querySelector("." + name);
    this.scene = JSON.parse(this.find("scene").textContent);
    this.slices = [...box.querySelectorAll(".slice")];
    this.coordinates = [...box.querySelectorAll(".mm")];
    this.surface = this.find("cortex") ? new Surface(this, this.find("cortex")) : null;
    this.edges = [0, 1, 2].map((axis) => Math.hypot(...this.scene.affine.slice(0, 3).map((row) => row[axis])));
    box.addEventListener("toggle", () => box.open && this.load());
    box.hidden = false;
  }

  // Unpack and draw once; every caller may wait for it.
  load() {
    this.loaded ??= Promise.all([this.decode(), this.surface?.load()]).then(() => {
      this.prepare();
      return this.choose("");
    });
    return this.loaded;
  }

  async decode() {
    const { shape, mask, values, background, step, noValue } = this.scene;
    const [inside, bytes, greys] = await Promise.all([unpack(mask), unpack(values), unpack(background)]);
    this.greys = greys;
    this.values = new Float32Array(shape[0] * shape[1] * shape[2]).fill(NaN);
    this.voxels = new Int32Array(bytes.length / 2);
    let count = 0;
    for (let voxel = 0; voxel < this.values.length; voxel++) if (isSet(inside, voxel)) this.voxels[count++] = voxel;
    this.voxels.forEach((voxel, position) => {
      const code = ((bytes[position] | (bytes[count + position] << 8)) << 16) >> 16;
      if (code !== noValue) this.values[voxel] = code * step;
    });
  }

  prepare() {
    const { shape, largest, limit, test } = this.scene;
    this.find("cutoff").max = Math.ceil(largest * 100) / 100;
    this.find("lowest").textContent = test === "F" ? "0" : (-limit).toFixed(1);
    this.find("highest").textContent = limit.toFixed(1);
    this.paintColours();
    this.at = this.findPeak();
    this.slices.forEach((canvas, axis) => {
      const [across, up] = AXES[axis];
      canvas.width = Math.round(shape[across] * this.edges[across] * PIXELS_PER_MM);
      canvas.height = Math.round(shape[up] * this.edges[up] * PIXELS_PER_MM);
      canvas.style.flexGrow = canvas.width; // all three at one scale
      const point = (event) => this.point(event, canvas, axis);
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointermove", (event) => event.buttons && point(event));
      canvas.addEventListener("keydown", (event) => this.press(event, axis));
    });
    this.find("map").addEventListener("change", (event) => this.choose(event.target.value));
    this.find("cutoff").addEventListener("input", () => this.draw());
    this.coordinates.forEach((input) => input.addEventListener("change", () => this.type()));
    this.find("back").addEventListener("click", () => this.origin?.focus());
  }

  paintColours() {
    const context = this.find("colours").getContext("2d");
    const { limit, test } = this.scene;
    for (let column = 0; column < 256; column++) {
      const value = test === "F" ? (column / 255) * limit : (column / 127.5 - 1) * limit;
      context.fillStyle = `rgb(${chooseColour(value, limit).map(Math.round).join(",")})`;
      context.fillRect(column, 0, 1, 1);
    }
  }

  findPeak() {
    let peak = this.voxels[0] ?? 0;
    for (const voxel of this.voxels) if (Math.abs(this.values[voxel]) > Math.abs(this.values[peak])) peak = voxel;
    const [nx, ny] = this.scene.shape;
    return [peak % nx, Math.floor(peak / nx) % ny, Math.floor(peak / (nx * ny))];
  }

  // Show the whole map (label "") or what survives a correction.
  async choose(label) {
    this.label = label;
    const bits = label ? await unpack(this.scene.survivors[label]) : null;
    if (this.label !== label) return; // another was chosen meanwhile
    this.shown = new Uint8Array(this.values.length);
    this.voxels.forEach((voxel, position) => (this.shown[voxel] = bits ? isSet(bits, position) : 1));
    this.surface?.sample();
    const map = this.find("map");
    map.value = label;
    this.find("threshold").textContent = map.selectedOptions[0].dataset.threshold;
    this.draw();
  }

  // Open the viewer at a place given in mm; `origin` is the button to go back to.
  async jump(mm, label, origin) {
    this.box.open = true;
    await this.load();
    await this.choose(label);
    this.origin = origin;
    this.find("back").hidden = !origin;
    this.move(transform(this.scene.inverse, mm));
    this.box.scrollIntoView({ block: "nearest" });
    this.slices[2].focus({ preventScroll: true });
  }

  move(voxel) {
    this.at = voxel.map((part, axis) => Math.max(0, Math.min(this.scene.shape[axis] - 1, Math.round(part))));
    this.draw();
  }

  point(event, canvas, axis) {
    const [across, up] = AXES[axis];
    const frame = canvas.getBoundingClientRect();
    const to = [...this.at];
    to[across] = Math.floor(((event.clientX - frame.left) / frame.width) * this.scene.shape[across]);
    to[up] = Math.floor((1 - (event.clientY - frame.top) / frame.height) * this.scene.shape[up]);
    this.move(to);
  }

  press(event, axis) {
    const [across, up] = AXES[axis];
    const steps = {
      ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowDown: [up, -1], ArrowUp: [up, 1], PageDown: [axis, -1], PageUp: [axis, 1],
    };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const to = [...this.at];
    to[steps[event.key][0]] += steps[event.key][1];
    this.move(to);
  }

  type() {
    const mm = this.coordinates.map((input) => input.valueAsNumber);
    if (mm.every(Number.isFinite)) this.move(transform(this.scene.inverse, mm));
  }

  index(voxel) {
    const [nx, ny] = this.scene.shape;
    return voxel[0] + nx * (voxel[1] + ny * voxel[2]);
  }

  draw() {
    this.slices.forEach((canvas, axis) => this.drawSlice(canvas, axis));
    this.surface?.draw();
    this.find("cutoff-value").textContent = this.find("cutoff").valueAsNumber.toFixed(2);
    transform(this.scene.affine, this.at).forEach((mm, axis) => (this.coordinates[axis].value = +mm.toFixed(1)));
    this.find("value").textContent = this.describe();
  }

  describe() {
    const voxel = this.index(this.at);
    if (Number.isNaN(this.values[voxel])) return "No value here.";
    const said = `${this.scene.test} = ${this.values[voxel].toFixed(2)}`;
    return this.label ? `${said}, ${this.shown[voxel] ? "survives" : "does not survive"} ${this.label}` : said;
  }

  drawSlice(canvas, axis) {
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.paintBackground(axis), 0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false; // a voxel is shown as one
    context.drawImage(this.paintMap(axis), 0, 0, canvas.width, canvas.height);
    this.drawCrosshair(context, canvas, axis);
  }

  paintBackground(axis) {
    const { shape, factor } = this.scene;
    const [across, up] = AXES[axis];
    const [nx, ny, nz] = shape.map((edge) => edge * factor);
    const strides = [1, nx, nx * ny];
    const first = (this.at[axis] * factor + (factor >> 1)) * strides[axis];
    return paint([nx, ny, nz][across], [nx, ny, nz][up], (pixels, pixel, column, row) => {
      pixels.fill(this.greys[first + column * strides[across] + row * strides[up]], pixel, pixel + 3);
      pixels[pixel + 3] = 255;
    });
  }

  paintMap(axis) {
    const { shape, limit } = this.scene;
    const [across, up] = AXES[axis];
    const cutoff = this.find("cutoff").valueAsNumber;
    const voxel = [...this.at];
    return paint(shape[across], shape[up], (pixels, pixel, column, row) => {
      voxel[across] = column;
      voxel[up] = row;
      const index = this.index(voxel);
      const value = this.values[index];
      if (!this.shown[index] || !(Math.abs(value) >= cutoff)) return;
      pixels.set(chooseColour(value, limit), pixel);
      const opacity = this.label ? 1 : Math.min(1, Math.abs(value) / (FADE_FRACTION * limit)) * FADED_OPACITY;
      pixels[pixel + 3] = 255 * opacity;
    });
  }

  drawCrosshair(context, canvas, axis) {
    const [across, up] = AXES[axis];
    const x = ((this.at[across] + 0.5) / this.scene.shape[across]) * canvas.width;
    const y = (1 - (this.at[up] + 0.5) / this.scene.shape[up]) * canvas.height;
    const scale = canvas.width / (canvas.clientWidth || canvas.width); // lines and letters keep their size on a phone
    const gap = 8 * scale; // what is pointed at stays in sight
    const thickness = 1.2 * scale;
    context.fillStyle = "#7CFC9A";
    context.fillRect(0, y - thickness / 2, x - gap, thickness);
    context.fillRect(x + gap, y - thickness / 2, canvas.width, thickness);
    context.fillRect(x - thickness / 2, 0, thickness, y - gap);
    context.fillRect(x - thickness / 2, y + gap, thickness, canvas.height);
    context.fillStyle = "#fff";
    context.font = `600 ${13 * scale}px system-ui, sans-serif`;
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillText(ENDS[across][0], 6 * scale, 6 * scale);
    context.textAlign = "right";
    context.fillText(ENDS[across][1], canvas.width - 6 * scale, 6 * scale);
  }
}
