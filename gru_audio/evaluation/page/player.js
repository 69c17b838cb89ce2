// A player and the line in its spectrogram.

const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Show where a player is in its spectrogram; a click there plays from that point. */
function linkPlayer(audio, picture, duration_s) {
  const playhead = picture.querySelector(".playhead");
  const follow = () => {
    playhead.hidden = false;
    playhead.style.left = `${(100 * audio.currentTime) / duration_s}%`;
    // Without motion the line still steps along, at the player's own few updates a second.
    if (!audio.paused && !stillness.matches) requestAnimationFrame(follow);
  };
  audio.addEventListener("timeupdate", follow);
  audio.addEventListener("seeked", follow);
  audio.addEventListener("play", () => {
    document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause());
    follow();
  });
  picture.addEventListener("click", (event) => {
    const { left, width } = picture.getBoundingClientRect();
    audio.currentTime = Math.min(((event.clientX - left) / width) * duration_s, audio.duration || 0);
    audio.play();
  });
}
