// How each kind of token (a row) is spread over the experts of one layer (the columns).

// spec: title, about, rows() [name], values() [row][expert] shares that sum to 1 in a row, most() (top of the scale).
class TableMap extends Chart {
  paint(svg, width) {
    this.names = this.spec.rows();
    this.values = this.spec.values();
    this.columns = this.values.length > 0 ? this.values[0].length : 0;
    const left = Math.ceil(Math.max(...this.names.map(textWidth), 0)) + 12;
    const inner = Math.max(22, Math.min(26, 320 / this.names.length)) * this.names.length;
    Object.assign(this, { left, right: width - 12, top: 6, bottom: 6 + inner, height: 6 + inner + 36 });
    this.paintCells(svg);
    this.names.forEach((name, row) =>
      svg.append(svgElement("text", { x: this.left - 7, y: this.yOf(row + 0.5) + 4, "text-anchor": "end" }, name)));
    const apart = Math.max(1, Math.ceil((24 * this.columns) / (this.right - this.left)));
    const every = [1, 2, 4, 8, 16, 32, 64].find((candidate) => candidate >= apart) || 128;
    for (let expert = 0; expert < this.columns; expert += every) {
      svg.append(svgElement("text", { x: this.columnAt(expert + 0.5), y: this.bottom + 15, "text-anchor": "middle" }, expert));
    }
    svg.append(svgElement("text", { x: this.right, y: this.bottom + 31, "text-anchor": "end" }, "expert"));
  }

  yOf(row) {
    return this.top + (row / this.names.length) * (this.bottom - this.top);
  }
  columnAt(column) {
    return this.left + (column / this.columns) * (this.right - this.left);
  }

  // One picture, a pixel a cell, stretched.
  paintCells(svg) {
    if (this.columns === 0) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.columns, this.names.length];
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.names.length);
    this.values.forEach((row, r) => row.forEach((share, c) => {
      const colour = divergingColour(scalePlace(share * this.columns, this.spec.most()));
      image.data.set([...colour, 255], 4 * (r * this.columns + c));
    }));
    context.putImageData(image, 0, 0);
    svg.append(svgElement("image", { class: "heat", href: canvas.toDataURL(), x: this.left, y: this.top,
      width: this.right - this.left, height: this.bottom - this.top, preserveAspectRatio: "none" }));
  }

  label() {
    const rows = this.names.map((name, r) => {
      const most = this.values[r].indexOf(Math.max(...this.values[r]));
      return `${name}: most to expert ${most}, ${formatShare(this.values[r][most])}`;
    });
    return `${this.spec.title}, assignments by expert. ${rows.join(". ")}. Arrow keys read values.`;
  }
  table() {
    return { head: ["expert", ...this.names],
      rows: Array.from({ length: this.columns }, (_, c) => [String(c), ...this.values.map((row) => formatShare(row[c]))]) };
  }

  showCross() {}  // columns are no moments
  pointAt(x, y) {
    this.read(Math.floor(((x - this.left) / (this.right - this.left)) * this.columns),
      Math.floor(((y - this.top) / (this.bottom - this.top)) * this.names.length));
  }
  step(dx, dy) {
    const { column = dx < 0 ? this.columns : -1, row = 0 } = this.cell || {};
    this.read(dx === 0 ? Math.max(0, column) : column + dx, row + dy);
  }
  leave() {
    this.cell = null;
    if (this.overlay) this.overlay.replaceChildren();
  }

  read(column, row) {
    if (this.columns === 0) return;
    column = Math.min(this.columns - 1, Math.max(0, column));
    row = Math.min(this.names.length - 1, Math.max(0, row));
    this.cell = { column, row };
    this.overlay.replaceChildren(svgElement("rect", { class: "cell", x: this.columnAt(column), y: this.yOf(row),
      width: this.columnAt(1) - this.columnAt(0), height: this.yOf(1) - this.yOf(0) }));
    const share = this.values[row][column];
    const box = this.svg.getBoundingClientRect();
    const scale = box.width / this.width;
    tooltip.show(`${this.names[row]}, expert ${column}`,
      [["of its assignments", formatShare(share)], ["of the uniform share", `${(share * this.columns).toFixed(2)}\u00d7`]],
      box.left + this.columnAt(column + 0.5) * scale, box.top + this.yOf(row + 0.5) * scale);
  }
}
