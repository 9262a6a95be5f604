// The inflated cortex, drawn without a graphics processor: a page may have more viewers than a browser gives contexts.

const CORTEX_WIDTH = 760, CORTEX_HEIGHT = 660; // pixels
const CORTEX_SCALE = 2.9; // pixels per mm
const HEMISPHERE_SHIFT = 43; // mm: the two lie side by side
const GYRUS = 219, SULCUS = 168, EDGE_LIGHT = 0.55; // greys, and how much of them is left where the surface turns away
const TURN = Math.PI / 18; // of a key
const CLICK_PIXELS = 4; // moved less, a pointer has clicked
const NEAR_MM = 8; // a crosshair further from the cortex is not marked on it
// To the right, upwards and towards the viewer.
const VIEWS = {
  left: [[0, -1, 0], [0, 0, 1], [-1, 0, 0]], right: [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
  front: [[-1, 0, 0], [0, 0, 1], [0, 1, 0]], back: [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
  above: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], below: [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
};

const dot = (one, other) => one[0] * other[0] + one[1] * other[1] + one[2] * other[2];

let cortex; // one mesh for all viewers

async function unpackCortex() {
  const { vertices, triangles, depths, step } = document.getElementById("cortex").dataset;
  const [n, nTriangles] = [+vertices, +triangles];
  const bytes = await unpack("cortex");
  const count = 18 * n + 3 * nTriangles;
  const number = (place) => ((bytes[place] | (bytes[count + place] << 8)) << 16) >> 16;
  // Of both hemispheres, one after the other: x, y, z of each vertex.
  const read = (part) => Float32Array.from({ length: 6 * n }, (_, place) => {
    const [vertex, axis] = [Math.floor(place / 3), place % 3];
    return number((Math.floor(vertex / n) * 9 + part * 3 + axis) * n + (vertex % n)) * step;
  });
  const mesh = { n, depths: +depths, white: read(0), way: read(1), inflated: read(2), sulci: bytes.subarray(2 * count) };
  mesh.triangles = Uint16Array.from({ length: 3 * nTriangles }, (_, place) => number(18 * n + place));
  mesh.normals = findNormals(mesh);
  return mesh;
}

function findNormals({ n, inflated, triangles }) {
  const normals = new Float32Array(6 * n);
  for (let first = 0; first < 2 * n; first += n) {
    for (let t = 0; t < triangles.length; t += 3) {
      const [a, b, c] = [0, 1, 2].map((corner) => 3 * (first + triangles[t + corner]));
      const one = [0, 1, 2].map((axis) => inflated[b + axis] - inflated[a + axis]);
      const two = [0, 1, 2].map((axis) => inflated[c + axis] - inflated[a + axis]);
      for (let axis = 0; axis < 3; axis++) {
        const [next, last] = [(axis + 1) % 3, (axis + 2) % 3];
        const part = one[next] * two[last] - one[last] * two[next];
        for (const corner of [a, b, c]) normals[corner + axis] += part;
      }
    }
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[v + axis] /= length;
  }
  return normals;
}

class Surface {
  constructor(viewer, canvas) {
    this.viewer = viewer;
    this.canvas = canvas;
    this.hemispheres = [0, 1];
    this.axes = VIEWS.left;
    canvas.width = CORTEX_WIDTH;
    canvas.height = CORTEX_HEIGHT;
    this.image = canvas.getContext("2d").createImageData(CORTEX_WIDTH, CORTEX_HEIGHT);
    this.pixels = this.image.data;
    this.nearest = new Float32Array(CORTEX_WIDTH * CORTEX_HEIGHT);
    this.seen = new Int32Array(CORTEX_WIDTH * CORTEX_HEIGHT); // the vertex that a pixel shows
  }

  async load() {
    cortex ??= unpackCortex();
    this.mesh = await cortex;
    const size = 2 * this.mesh.n;
    this.voxels = new Int32Array(size); // the voxel that a vertex shows, -1 of none
    this.colours = new Float32Array(3 * size);
    this.x = new Float32Array(size);
    this.y = new Float32Array(size);
    this.z = new Float32Array(size);
    this.listen();
  }

  listen() {
    const { canvas, viewer } = this;
    let from = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      [from, moved] = [[event.clientX, event.clientY], 0];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || !event.buttons) return;
      const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
      moved += Math.abs(x) + Math.abs(y);
      from = [event.clientX, event.clientY];
      if (moved > CLICK_PIXELS) this.turn((2 * Math.PI * x) / canvas.clientWidth, (2 * Math.PI * y) / canvas.clientWidth);
    });
    canvas.addEventListener("pointerup", (event) => {
      const frame = canvas.getBoundingClientRect();
      if (from && moved <= CLICK_PIXELS) this.pick((event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height);
      from = null;
    });
    canvas.addEventListener("keydown", (event) => this.press(event));
    for (const button of viewer.box.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => {
        this.axes = VIEWS[button.dataset.view];
        this.draw();
      });
    }
    for (const choice of viewer.box.querySelectorAll(".hemisphere")) {
      choice.addEventListener("change", () => {
        this.hemispheres = choice.value.split(" ").map(Number);
        this.draw();
      });
    }
  }

  press(event) {
    const turns = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, -TURN], ArrowDown: [0, TURN] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in turns) this.turn(...turns[event.key]);
    else if (event.key === "Enter") this.pick(0.5, 0.5);
    else return;
    event.preventDefault();
  }

  // Turn what faces the viewer to the right and downwards, by angles.
  turn(right, down) {
    const mix = (one, a, other, b) => one.map((part, axis) => a * part + b * other[axis]);
    let [across, up, near] = this.axes;
    [across, near] = [mix(across, Math.cos(right), near, Math.sin(right)), mix(near, Math.cos(right), across, -Math.sin(right))];
    [up, near] = [mix(up, Math.cos(down), near, -Math.sin(down)), mix(near, Math.cos(down), up, Math.sin(down))];
    this.axes = [across, up, near];
    this.draw();
  }

  // Move the crosshair to what is seen at a share of the width and of the height.
  pick(across, down) {
    const pixel = Math.floor(down * CORTEX_HEIGHT) * CORTEX_WIDTH + Math.floor(across * CORTEX_WIDTH);
    const vertex = this.seen[pixel] ?? -1;
    if (vertex < 0) return;
    const { inverse, shape } = this.viewer.scene;
    const voxel = this.voxels[vertex];
    if (voxel < 0) this.viewer.move(transform(inverse, this.locate(vertex)));
    else this.viewer.move([voxel % shape[0], Math.floor(voxel / shape[0]) % shape[1], Math.floor(voxel / (shape[0] * shape[1]))]);
  }

  // The middle of the cortex below a vertex, in mm.
  locate(vertex) {
    return [0, 1, 2].map((axis) => this.mesh.white[3 * vertex + axis] + 0.5 * this.mesh.way[3 * vertex + axis]);
  }

  // Find the voxel that each vertex shows: of those through the cortex that are shown, the one furthest from 0.
  sample() {
    const { white, way, depths } = this.mesh;
    const { scene, values, shown } = this.viewer;
    const [[nx, ny, nz], m] = [scene.shape, scene.inverse];
    for (let vertex = 0; vertex < this.voxels.length; vertex++) {
      let [found, furthest] = [-1, 0];
      for (let depth = 0; depth < depths; depth++) {
        const share = depth / (depths - 1);
        const x = white[3 * vertex] + share * way[3 * vertex];
        const y = white[3 * vertex + 1] + share * way[3 * vertex + 1];
        const z = white[3 * vertex + 2] + share * way[3 * vertex + 2];
        const i = Math.floor(m[0][0] * x + m[0][1] * y + m[0][2] * z + m[0][3] + 0.5);
        const j = Math.floor(m[1][0] * x + m[1][1] * y + m[1][2] * z + m[1][3] + 0.5);
        const k = Math.floor(m[2][0] * x + m[2][1] * y + m[2][2] * z + m[2][3] + 0.5);
        if (i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz) continue;
        const voxel = i + nx * (j + ny * k);
        if (shown[voxel] && Math.abs(values[voxel]) > furthest) [found, furthest] = [voxel, Math.abs(values[voxel])];
      }
      this.voxels[vertex] = found;
    }
  }

  paintVertices() {
    const { scene, values, label } = this.viewer;
    const cutoff = this.viewer.find("cutoff").valueAsNumber;
    const { normals, sulci } = this.mesh;
    const near = this.axes[2];
    for (let vertex = 0; vertex < this.voxels.length; vertex++) {
      const voxel = this.voxels[vertex];
      const value = voxel < 0 ? NaN : values[voxel];
      const isShown = Math.abs(value) >= cutoff;
      const opacity = !isShown ? 0 : label ? 1 : Math.min(1, Math.abs(value) / (FADE_FRACTION * scene.limit)) * FADED_OPACITY;
      const colour = isShown ? chooseColour(value, scene.limit) : null;
      const facing = normals[3 * vertex] * near[0] + normals[3 * vertex + 1] * near[1] + normals[3 * vertex + 2] * near[2];
      const light = EDGE_LIGHT + (1 - EDGE_LIGHT) * Math.max(0, facing);
      const grey = sulci[vertex] ? SULCUS : GYRUS;
      for (let channel = 0; channel < 3; channel++) {
        this.colours[3 * vertex + channel] = light * (opacity ? grey + opacity * (colour[channel] - grey) : grey);
      }
    }
  }

  placeVertices() {
    const { n, inflated } = this.mesh;
    const [across, up, near] = this.axes;
    const shift = this.hemispheres.length > 1 ? HEMISPHERE_SHIFT : 0;
    for (let vertex = 0; vertex < 2 * n; vertex++) {
      const point = [inflated[3 * vertex] + (vertex < n ? -shift : shift), inflated[3 * vertex + 1], inflated[3 * vertex + 2]];
      this.x[vertex] = CORTEX_WIDTH / 2 + CORTEX_SCALE * dot(across, point);
      this.y[vertex] = CORTEX_HEIGHT / 2 - CORTEX_SCALE * dot(up, point);
      this.z[vertex] = dot(near, point);
    }
  }

  draw() {
    this.paintVertices();
    this.placeVertices();
    this.pixels.fill(0);
    this.nearest.fill(-Infinity);
    this.seen.fill(-1);
    const { n, triangles } = this.mesh;
    for (const hemisphere of this.hemispheres) {
      for (let t = 0; t < triangles.length; t += 3) {
        this.fillTriangle(hemisphere * n + triangles[t], hemisphere * n + triangles[t + 1], hemisphere * n + triangles[t + 2]);
      }
    }
    this.canvas.getContext("2d").putImageData(this.image, 0, 0);
    this.nameSides();
    this.markCrosshair();
  }

  // What lies to the left and to the right, as on the slices.
  nameSides() {
    const across = this.axes[0];
    const axis = [0, 1, 2].reduce((best, other) => (Math.abs(across[other]) > Math.abs(across[best]) ? other : best), 0);
    const [left, right] = across[axis] > 0 ? ENDS[axis] : [...ENDS[axis]].reverse();
    const context = this.canvas.getContext("2d");
    const scale = CORTEX_WIDTH / (this.canvas.clientWidth || CORTEX_WIDTH);
    context.fillStyle = getComputedStyle(this.canvas).color;
    context.font = `600 ${13 * scale}px system-ui, sans-serif`;
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillText(left, 6 * scale, 6 * scale);
    context.textAlign = "right";
    context.fillText(right, CORTEX_WIDTH - 6 * scale, 6 * scale);
  }

  fillTriangle(a, b, c) {
    const { x, y, z, colours, nearest, seen, pixels } = this;
    const area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]);
    if (area >= 0) return; // seen from within; rows run downwards
    const top = Math.max(0, Math.floor(Math.min(y[a], y[b], y[c])));
    const bottom = Math.min(CORTEX_HEIGHT - 1, Math.ceil(Math.max(y[a], y[b], y[c])));
    const left = Math.max(0, Math.floor(Math.min(x[a], x[b], x[c])));
    const right = Math.min(CORTEX_WIDTH - 1, Math.ceil(Math.max(x[a], x[b], x[c])));
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const across = column + 0.5;
        const down = row + 0.5;
        const ofA = ((x[b] - across) * (y[c] - down) - (x[c] - across) * (y[b] - down)) / area;
        const ofB = ((x[c] - across) * (y[a] - down) - (x[a] - across) * (y[c] - down)) / area;
        const ofC = 1 - ofA - ofB;
        if (ofA < 0 || ofB < 0 || ofC < 0) continue;
        const pixel = row * CORTEX_WIDTH + column;
        const depth = ofA * z[a] + ofB * z[b] + ofC * z[c];
        if (depth <= nearest[pixel]) continue;
        nearest[pixel] = depth;
        seen[pixel] = ofA >= ofB && ofA >= ofC ? a : ofB >= ofC ? b : c;
        for (let channel = 0; channel < 3; channel++) {
          pixels[4 * pixel + channel] = ofA * colours[3 * a + channel] + ofB * colours[3 * b + channel] + ofC * colours[3 * c + channel];
        }
        pixels[4 * pixel + 3] = 255;
      }
    }
  }

  // A ring where the cortex is nearest to the crosshair, if it is near and in sight.
  markCrosshair() {
    const { n } = this.mesh;
    const at = transform(this.viewer.scene.affine, this.viewer.at);
    let [found, least] = [-1, NEAR_MM];
    for (const hemisphere of this.hemispheres) {
      for (let vertex = hemisphere * n; vertex < (hemisphere + 1) * n; vertex++) {
        const place = this.locate(vertex);
        const distance = Math.hypot(place[0] - at[0], place[1] - at[1], place[2] - at[2]);
        if (distance < least) [found, least] = [vertex, distance];
      }
    }
    const pixel = Math.floor(this.y[found]) * CORTEX_WIDTH + Math.floor(this.x[found]);
    if (found < 0 || !(this.z[found] > this.nearest[pixel] - NEAR_MM)) return;
    const context = this.canvas.getContext("2d");
    for (const [width, colour] of [[5, "#000"], [2.5, "#7CFC9A"]]) {
      context.beginPath();
      context.arc(this.x[found], this.y[found], 9, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}
