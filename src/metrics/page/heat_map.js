// Load of every expert of one layer over training.

// Share of the assignments relative to the uniform one, as a place on the colour scale: uniform is always its middle.
function scalePlace(relative, most) {
  return relative <= 1 ? relative / 2 : 0.5 + (0.5 * (relative - 1)) / (most - 1);
}

// The legend of the colours: 0 to `most` times the uniform share.
function colourScale(most) {
  const width = 240;
  const svg = svgElement("svg", { width: width + 24, height: 40, role: "img",
    "aria-label": `Colour scale from no tokens, purple, over the uniform share, white, to ${most} times it, brown` });
  const steps = 60;
  for (let i = 0; i < steps; ++i) {
    const fill = `rgb(${divergingColour((i + 0.5) / steps)})`;
    svg.append(svgElement("rect", { x: 8 + (i * width) / steps, y: 4, width: width / steps + 0.5, height: 12, fill }));
  }
  const ticks = [[0, "0"], [0.5, "\u00bd"], [1, "uniform"], [(1 + most) / 2, ""], [most, `\u2265${most}\u00d7`]];
  for (const [relative, text] of ticks) {
    const x = 8 + scalePlace(relative, most) * width;
    svg.append(svgElement("line", { class: "axis-line", x1: x, x2: x, y1: 16, y2: relative === 1 ? 24 : 20 }));
    svg.append(svgElement("text", { x, y: 35, "text-anchor": "middle" }, text));
  }
  return element("div", { class: "scale" }, svg);
}

// A run and a layer have the scale of every other one, which ends at so many times the uniform share.
const kMostLoad = 3;

// Experts upwards, as in scripts/plot.py. spec: title, about, x [time], load [time][expert].
class HeatMap extends Chart {
  get experts() {
    return this.spec.load.length > 0 ? this.spec.load[0].length : 0;
  }

  paint(svg, width) {
    this.x = this.spec.x();
    const inner = Math.min(320, Math.max(112, this.experts * 16));
    this.place(Math.ceil(textWidth(String(this.experts - 1))) + 14, width, 24, inner);
    this.paintCells(svg);
    svg.append(svgElement("text", { x: 0, y: 10 }, "expert"));
    const apart = Math.max(1, Math.ceil((14 * this.experts) / inner));
    const every = [1, 2, 4, 8, 16, 32, 64, 128].find((candidate) => candidate >= apart) || 256;
    for (let expert = 0; expert < this.experts; expert += every) {
      svg.append(svgElement("text", { x: this.left - 7, y: this.yOf(expert + 0.5) + 4, "text-anchor": "end" }, expert));
    }
    this.paintXAxis(svg);
  }

  yOf(row) {
    return this.bottom - (row / this.experts) * (this.bottom - this.top);
  }

  // Each column reaches from halfway to the one before it to halfway to the next.
  edges(i) {
    const middle = (a, b) => (this.x[a] + this.x[b]) / 2;
    const last = this.x.length - 1;
    const low = i > 0 ? middle(i - 1, i) : Math.max(0, this.x[0] - (last > 0 ? (this.x[1] - this.x[0]) / 2 : this.x[0]));
    return [low, i < last ? middle(i, i + 1) : this.x[last]];
  }

  // One picture, a pixel per expert and screen column, stretched: thousands of rectangles would be slow.
  paintCells(svg) {
    if (this.x.length === 0 || this.experts === 0) return;
    const canvas = document.createElement("canvas");
    const columns = Math.max(1, Math.round(this.right - this.left));
    [canvas.width, canvas.height] = [columns, this.experts];
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, this.experts);
    for (let column = 0; column < columns; ++column) {
      const value = ((column + 0.5) / columns) * view.xMax;
      const i = nearestIndex(this.x, value);
      if (value > this.x[this.x.length - 1] || value < this.edges(0)[0]) continue;
      for (let expert = 0; expert < this.experts; ++expert) {
        const share = this.spec.load[i][expert];
        if (!isNumber(share)) continue;
        const colour = divergingColour(scalePlace(share * this.experts, kMostLoad));
        image.data.set([...colour, 255], 4 * ((this.experts - 1 - expert) * columns + column));
      }
    }
    context.putImageData(image, 0, 0);
    svg.append(svgElement("image", { class: "heat", href: canvas.toDataURL(), x: this.left, y: this.top,
      width: this.right - this.left, height: this.bottom - this.top, preserveAspectRatio: "none" }));
  }

  label() {
    const last = this.spec.load[this.spec.load.length - 1] || [];
    const shares = last.map((share, expert) => `${expert}: ${formatShare(share)}`).join(", ");
    return `${this.spec.title}: load of ${this.experts} experts over training. At the end, by expert: ${shares}. ` +
      "Arrow keys read values.";
  }

  // At most a dozen moments: the picture holds the rest.
  table() {
    const every = Math.max(1, Math.ceil(this.x.length / 12));
    const chosen = this.x.map((_, i) => i).filter((i) => (this.x.length - 1 - i) % every === 0);
    return {
      head: ["expert", ...chosen.map((i) => `${view.axis} ${formatCount(this.x[i])}`)],
      rows: Array.from({ length: this.experts }, (_, expert) =>
        [String(expert), ...chosen.map((i) => formatShare(this.spec.load[i][expert]))]),
    };
  }

  pointAt(x, y) {
    const value = ((x - this.left) / (this.right - this.left)) * view.xMax;
    this.read(nearestIndex(this.x, value), Math.floor(((this.bottom - y) / (this.bottom - this.top)) * this.experts));
  }
  step(dx, dy) {
    const { column = dx < 0 ? this.x.length : -1, expert = 0 } = this.cell || {};
    this.read(dx === 0 ? Math.max(0, column) : column + dx, expert - dy);
  }
  leave() {
    this.cell = null;
    if (this.overlay) this.overlay.replaceChildren();
  }

  read(column, expert) {
    if (this.x.length === 0 || this.experts === 0) return;
    column = Math.min(this.x.length - 1, Math.max(0, column));
    expert = Math.min(this.experts - 1, Math.max(0, expert));
    this.cell = { column, expert };
    const [from, to] = this.edges(column).map((value) => this.xOf(value));
    this.overlay.replaceChildren(svgElement("rect", { class: "cell", x: from - 1, width: Math.max(3, to - from) + 1,
      y: this.yOf(expert + 1), height: this.yOf(0) - this.yOf(1) }));
    const share = this.spec.load[column][expert];
    const relative = isNumber(share) ? `${(share * this.experts).toFixed(2)}\u00d7` : "\u2013";
    this.announce(`Expert ${expert}, ${view.axis} ${formatCount(this.x[column])}`,
      [["of the assignments", formatShare(share)], ["of the uniform share", relative]], this.x[column], this.yOf(expert + 0.5));
  }
}
