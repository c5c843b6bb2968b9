// What the pages share around their charts: the head with the theme button, choices between a few things, sections.

const main = document.getElementById("main");

function themeButton() {
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const button = element("button", { type: "button", id: "theme" });
  const name = () => (button.textContent = dark() ? "Light theme" : "Dark theme");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  return button;
}

// What stands at the top of the page.
function showHead(kicker, title, lead) {
  const text = element("div", {}, element("p", { class: "kicker" }, kicker), element("h1", {}, title),
    element("p", { class: "lead" }, lead));
  document.getElementById("top").append(text, themeButton());
}

function segmented(label, options, current, choose) {
  const group = element("span", { class: "segments", role: "group", "aria-label": label });
  for (const [value, text] of options) {
    const button = element("button", { type: "button", "aria-pressed": String(value === current) }, text);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      choose(value);
    });
    group.append(button);
  }
  return element("span", { class: "field" }, label, group);
}

// `head`: elements between the note and the charts.
function section(id, title, note, charts, head = []) {
  if (charts.length === 0) return;
  const narrow = charts.filter((chart) => !chart.spec.wide);
  const three = narrow.length === 3;
  if (!three && narrow.length % 2 === 1) narrow[narrow.length - 1].node.classList.add("wide");  // leaves no hole
  main.append(element("h2", { id }, title), element("p", { class: "note" }, note), ...head,
    element("div", { class: three ? "grid three" : "grid" }, ...charts.map((chart) => chart.node)));
}

// Draws everything, and again whenever the width changes.
function finish() {
  redrawAll();
  let drawnWidth = innerWidth;
  new ResizeObserver(() => {
    if (innerWidth !== drawnWidth) redrawAll();
    drawnWidth = innerWidth;
  }).observe(document.body);
}
