// Buttons of charts, and names, that the pages share.

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

// What runs and settings are called where space is short: long names lose the parts, between hyphens, commas and slashes, that all
// begin or end with. One that has no letter left keeps the part before: "seed-1", not "1".
function shortNames(names) {
  if (names.length < 2 || Math.max(...names.map((name) => name.length)) <= 24) return names;
  const parts = names.map((name) => name.split(/(?<=[-,/ ])|(?=[-,/ ])/));
  const shortest = Math.min(...parts.map((list) => list.length));
  let front = 0;
  while (front < shortest - 1 && parts.every((list) => list[front] === parts[0][front])) ++front;
  const wordless = (i) => (list) => !/\p{L}/u.test(list.slice(i).join(""));
  while (front > 0 && parts.some(wordless(front))) --front;
  let back = 0;
  while (back < shortest - 1 - front && parts.every((list) => list[list.length - 1 - back] === parts[0][parts[0].length - 1 - back])) ++back;
  const short = parts.map((list) => list.slice(front, list.length - back).join("").replace(/^[-,/ ]+|[-,/ ]+$/g, ""));
  return short.every((name) => name !== "") ? short : names;
}

// The controls of a page of curves: a button for each of `items` (none: left out), steps or tokens where `byTokens` says that
// these tell different things, smoothing.
function curveControls(label, items, byTokens) {
  const controls = document.getElementById("controls");
  if (items.length > 0) controls.append(toggleButtons(label, items));
  controls.classList.toggle("tall", items.length > 6);
  if (byTokens) {
    controls.append(segmented("Over", [["step", "steps"], ["tokens", "tokens"]], view.axis, (axis) => {
      view.axis = axis;
      refresh();
    }));
  }
  const slider = element("input", { type: "range", min: 0, max: 100, value: view.smoothing });
  slider.addEventListener("input", () => {
    view.smoothing = Number(slider.value);
    redrawAll();
  });
  controls.append(element("label", { class: "field" }, "Smoothing", slider));
}
