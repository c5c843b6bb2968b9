// Buttons that the pages share.

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

// A button for every line of the charts, which hides it and shows it again. items: {name, label, colour, dash}.
function toggleButtons(label, items) {
  const group = element("div", { class: "runs", role: "group", "aria-label": label });
  for (const item of items) {
    const button = element("button", { type: "button", "aria-pressed": "true", title: item.name },
      swatch(item.colour, item.dash), element("span", {}, item.label));
    button.addEventListener("click", () => {
      const hide = !view.hidden.has(item);
      if (hide) view.hidden.add(item);
      else view.hidden.delete(item);
      button.setAttribute("aria-pressed", String(!hide));
      refresh();
    });
    group.append(button);
  }
  return group;
}

// A choice among [value, text] pairs.
function chooser(label, options, choose) {
  const select = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  select.addEventListener("change", () => choose(select.value));
  return element("label", { class: "field" }, label, select);
}
