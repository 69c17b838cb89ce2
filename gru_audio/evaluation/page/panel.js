// The panel of one system's audio of a clip: its spectrogram and its player, both still empty.

function systemPanel(system, label, clip) {
  const panel = byId("system-panel").content.cloneNode(true).firstElementChild;
  panel.dataset.system = system;
  panel.setAttribute("aria-label", `${label}, ${clip.name}`);
  panel.querySelector(".system-title").firstElementChild.textContent = label;
  panel.querySelector("canvas").setAttribute("aria-label", `Spectrogram of ${clip.name}, ${label}`);
  const player = panel.querySelector("audio");
  player.setAttribute("aria-label", `${label}: ${clip.name}`);
  markAxes(panel, clip.duration_s);
  linkPlayer(player, panel.querySelector(".picture"), clip.duration_s);
  return panel;
}
