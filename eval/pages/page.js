"use strict";
// The gallery of a page: photographs with boxes, which a threshold and classes choose. Its data are the JSON in #data:
//   classes: [{name, colour, ink, threshold}]   threshold: null if the model has none for a class
//   range: [least, most, step]                  of the levels, which are probabilities or scores
//   groups: [name]                              kinds of photographs; may be empty
//   images: [{file, src, width, height, group, note, boxes: [[class, level, x1, y1, x2, y2]], truth: [[class, ...]]}]
(function () {
  const PAGE = 60;
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const shownClasses = data.classes.map(() => true);
  const threshold = element("level");
  let level = null; // null: the default threshold of each class
  let page = 0;
  let zoomed = -1; // index into `order`
  let order = []; // indices of the photographs that are listed
  let kept = []; // for each photograph the boxes that are shown

  function make(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text; // never as HTML: names may be anything
    return made;
  }

  function isShown(box) {
    const least = level === null ? data.classes[box[0]].threshold : level;
    return shownClasses[box[0]] && (least === null || box[1] > least);
  }

  function counts(boxes) {
    const found = data.classes.map(() => 0);
    for (const box of boxes) found[box[0]] += 1;
    return found;
  }

  function inWords(boxes) {
    const named = counts(boxes).map((count, index) => [count, data.classes[index].name]).filter(([count]) => count);
    return named.length ? named.map(([count, name]) => `${count} ${name}`).join(", ") : "nothing shown";
  }

  function choose() {
    kept = data.images.map((image) => image.boxes.filter(isShown));
    const group = element("group").value;
    const only = element("only").checked;
    order = data.images.map((_, index) => index).filter((index) => {
      const image = data.images[index];
      const inGroup = !group || data.groups[image.group] === group;
      return inGroup && (!only || kept[index].length || image.truth.length);
    });
    const best = (index) => kept[index].reduce((most, box) => Math.max(most, box[1]), -Infinity);
    const by = element("order").value;
    if (by === "name") order.sort((a, b) => data.images[a].file.localeCompare(data.images[b].file));
    if (by === "confidence") order.sort((a, b) => best(b) - best(a) || a - b);
    if (by === "count") order.sort((a, b) => kept[b].length - kept[a].length || a - b);
    const all = order.flatMap((index) => kept[index]);
    counts(all).forEach((count, index) => (element(`count-${index}`).textContent = `(${count.toLocaleString("en")})`));
    const pictures = order.filter((index) => kept[index].length).length;
    element("status").textContent =
      `${all.length.toLocaleString("en")} objects shown in ${pictures.toLocaleString("en")} of ` +
      `${order.length.toLocaleString("en")} photographs`;
    turn(0);
  }

  function turn(to) {
    const pages = Math.max(1, Math.ceil(order.length / PAGE));
    page = Math.min(Math.max(to, 0), pages - 1);
    element("page").textContent = `Page ${page + 1} of ${pages}`;
    element("previous").disabled = page === 0;
    element("next").disabled = page === pages - 1;
    const items = order.slice(page * PAGE, (page + 1) * PAGE).map((index, place) => {
      const item = make("li");
      item.append(card(index, page * PAGE + place));
      return item;
    });
    element("cards").replaceChildren(...items);
  }

  function card(index, place) {
    const image = data.images[index];
    const button = make("button", "card");
    button.type = "button";
    button.append(picture(index), make("span", "name", image.file));
    if (image.note) button.append(make("span", "found", image.note));
    button.append(make("span", "found", inWords(kept[index])));
    button.addEventListener("click", () => zoom(place));
    return button;
  }

  function picture(index) {
    const image = data.images[index];
    const frame = make("span", "picture");
    frame.style.aspectRatio = `${image.width} / ${image.height}`;
    const shown = make("img");
    shown.loading = "lazy";
    shown.decoding = "async";
    shown.alt = "";
    shown.src = image.src;
    frame.append(shown);
    for (const box of image.truth.filter((one) => shownClasses[one[0]])) frame.append(outline(image, box, "truth"));
    // The best one on top.
    for (const box of kept[index].slice().sort((a, b) => a[1] - b[1])) {
      frame.append(outline(image, box, "found"));
    }
    return frame;
  }

  function outline(image, box, kind) {
    const made = make("span", `box ${kind}`);
    const [x1, y1, x2, y2] = box.slice(-4);
    made.style.left = `${(100 * x1) / image.width}%`;
    made.style.top = `${(100 * y1) / image.height}%`;
    made.style.width = `${(100 * (x2 - x1)) / image.width}%`;
    made.style.height = `${(100 * (y2 - y1)) / image.height}%`;
    const { name, colour, ink } = data.classes[box[0]];
    made.style.borderColor = colour;
    const tag = make("span", "tag", kind === "truth" ? `${name}, labelled` : `${name} ${box[1].toFixed(2)}`);
    if (y1 < 0.06 * image.height) tag.classList.add("inside");
    tag.style.background = colour;
    tag.style.color = ink;
    made.append(tag);
    return made;
  }

  function zoom(place) {
    if (place < 0 || place >= order.length) return;
    zoomed = place;
    const index = order[place];
    const image = data.images[index];
    element("zoom-name").textContent = image.file;
    const large = picture(index);
    // As wide as the window allows without being higher than it.
    large.style.width = `min(100%, ${(75 * image.width) / image.height}vh)`;
    element("zoom-picture").replaceChildren(large);
    element("zoom-found").textContent = [image.note, inWords(kept[index])].filter(Boolean).join(": ");
    element("zoom-previous").disabled = place === 0;
    element("zoom-next").disabled = place === order.length - 1;
    if (!element("zoom").open) element("zoom").showModal();
  }

  function tellLevel() {
    element("level-value").textContent = level === null ? "default" : level.toFixed(2);
    element("level-default").disabled = level === null;
  }

  data.classes.forEach(({ name, colour }, index) => {
    const label = make("label");
    const tick = make("input");
    tick.type = "checkbox";
    tick.checked = true;
    tick.addEventListener("change", () => {
      shownClasses[index] = tick.checked;
      choose();
    });
    const swatch = make("span", "swatch");
    swatch.style.background = colour;
    const count = make("span", "quiet");
    count.id = `count-${index}`;
    label.append(tick, swatch, make("span", "", name), count);
    element("classes").append(label);
  });
  if (data.groups.length) {
    const names = ["", ...data.groups];
    element("group").append(...names.map((name) => new Option(name || "all", name)));
    element("group-label").hidden = false;
  } else {
    element("group").append(new Option("all", ""));
  }
  if (threshold) {
    [threshold.min, threshold.max, threshold.step] = data.range;
    const known = data.classes.map((one) => one.threshold).filter((one) => one !== null);
    threshold.value = known.length ? known.reduce((a, b) => a + b) / known.length : data.range[0];
    threshold.addEventListener("input", () => {
      level = Number(threshold.value);
      tellLevel();
      choose();
    });
    element("level-default").addEventListener("click", () => {
      level = null;
      tellLevel();
      choose();
    });
    tellLevel();
  }
  for (const id of ["group", "order", "only"]) element(id).addEventListener("change", choose);
  element("previous").addEventListener("click", () => turn(page - 1));
  element("next").addEventListener("click", () => turn(page + 1));
  element("zoom-previous").addEventListener("click", () => zoom(zoomed - 1));
  element("zoom-next").addEventListener("click", () => zoom(zoomed + 1));
  element("zoom-close").addEventListener("click", () => element("zoom").close());
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    // Arrows belong to what has the focus where that uses them.
    if (!step || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
    if (element("zoom").open) zoom(zoomed + step);
    else turn(page + step);
    event.preventDefault();
  });
  choose();
})();
