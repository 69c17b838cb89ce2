// The list of clips: players and spectrograms side by side, sorted and filtered.

/** All figures of a clip, systems across; unfolded where there is room beside the panels. */
function clipFigures(clip) {
  const details = byId("clip-figures").content.cloneNode(true).firstElementChild;
  const table = details.querySelector("table");
  table.setAttribute("aria-label", `Figures of ${clip.name}`);
  details.querySelector(".scroll").setAttribute("aria-label", `Figures of ${clip.name}`);
  const systems = data.systems.filter(({ key }) => key in clip.figures);
  const rows = data.measures.map((measure) => [
    element("th", {}, titleOf(measure)),
    ...systems.map(({ key }) => element("td", {}, figureText(clip.figures[key][measure.key]))),
  ]);
  fillTable(table, ["Figure", ...systems.map(({ label }) => label)], rows);
  details.open = window.matchMedia("(min-width: 48rem)").matches;
  return details;
}

function clipCard(clip, number) {
  const card = byId("clip-card").content.cloneNode(true).firstElementChild;
  const heading = card.querySelector("h3");
  heading.textContent = clip.name;
  heading.id = `clip-${number}`;
  card.querySelector("article").setAttribute("aria-labelledby", heading.id);
  const facts = [clip.speaker, `${clip.duration_s.toFixed(1)} s`].filter(Boolean);
  card.querySelector(".clip-facts").textContent = facts.join(" · ");
  const systems = data.systems.map(({ key }) => key).filter((key) => key in clip.audio);
  card.querySelector(".systems").append(...systems.map((system) => systemPanel(system, labelOf(system), clip)));
  if (data.measures.length) card.querySelector(".systems").append(clipFigures(clip));
  return card;
}

/** Load a card's players and spectrograms when it comes near the window, and let players go after. */
function watchCards(cards) {
  const clipOf = new Map(data.clips.map((clip, i) => [cards[i], clip]));
  const show = (card) => {
    const clip = clipOf.get(card);
    const canvases = new Map();
    card.querySelectorAll(".system").forEach((panel) => {
      const { system } = panel.dataset;
      panel.querySelector("audio").src = clip.audio[system];
      canvases.set(system, panel.querySelector("canvas"));
    });
    if (card.dataset.shown) return;
    card.dataset.shown = "yes";
    paintClip(clip, canvases).catch((error) => {
      card.querySelector(".clip-facts").append(` · cannot be drawn here: ${error.message}`);
    });
  };
  // Browsers on phones hold some 70 players; a long list has more.
  const letGo = (card) =>
    card.querySelectorAll("audio[src]").forEach((audio) => {
      if (!audio.paused) return;
      audio.removeAttribute("src");
      audio.load();
    });
  const observer = new IntersectionObserver(
    (entries) => entries.forEach(({ isIntersecting, target }) => (isIntersecting ? show : letGo)(target)),
    { rootMargin: "800px" },
  );
  cards.forEach((card) => observer.observe(card));
}

/** Name the figure that the list is sorted by, beside each system's name. */
function showSortedFigure(card, clip, measure, sortedSystem) {
  card.querySelectorAll(".system").forEach((panel) => {
    const { system } = panel.dataset;
    const figure = clip.figures[system]?.[measure?.key];
    const text = typeof figure === "number" ? `${measure.title} ${figureText(figure)} ${measure.unit}` : "";
    panel.querySelector(".sorted-figure").textContent = text.trim();
    panel.querySelector(".sorted-figure").classList.toggle("marked", system === sortedSystem && text !== "");
  });
}

/** Put the cards in the order that the controls ask for, and show those of the chosen speaker. */
function arrange(cards) {
  const measure = measureOf(byId("sort-measure").value);
  const system = byId("sort-system").value;
  const speaker = byId("speaker-filter").value;
  const sign = byId("sort-order").value === "worst" ? 1 : -1;
  const figure = (i) => data.clips[i].figures[system]?.[measure?.key];
  const order = data.clips.map((_, i) => i);
  if (measure) {
    order.sort((i, j) => {
      const known = [i, j].map((k) => typeof figure(k) === "number");
      if (!known[0] || !known[1]) return known[1] - known[0];
      return sign * worseFirst(measure, figure(i), figure(j));
    });
  }
  byId("clip-list").append(...order.map((i) => cards[i]));
  data.clips.forEach((clip, i) => {
    cards[i].hidden = speaker !== "" && clip.speaker !== speaker;
    showSortedFigure(cards[i], clip, measure, system);
  });
  const shown = cards.filter((card) => !card.hidden).length;
  byId("clips-shown").textContent = `${shown} of ${cards.length} clips`;
}

function showClips() {
  fillSelect("sort-measure", [...data.measures.map((m) => [m.key, titleOf(m)]), ["", "order of evaluation"]]);
  fillSelect(
    "sort-system",
    data.systems.map(({ key, label }) => [key, label]),
  );
  fillSelect(
    "speaker-filter",
    data.speakers.filter(Boolean).map((speaker) => [speaker, speaker]),
  );
  byId("sort-measure").value = data.sort_measure;
  byId("sort-system").value = data.sort_system;
  const cards = data.clips.map(clipCard);
  for (const id of ["sort-measure", "sort-system", "sort-order", "speaker-filter"]) {
    byId(id).addEventListener("change", () => arrange(cards));
  }
  arrange(cards);
  watchCards(cards);
  showLegend();
}
