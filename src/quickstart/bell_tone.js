// A small bell, made from its partials. Silent until somebody asks for it.

// Ratio to the strike tone, loudness, seconds: hum, prime, tierce, quint, nominal.
const PARTIALS = [
  [0.5, 0.35, 2.6],
  [1, 0.5, 1.8],
  [1.2, 0.3, 1.3],
  [1.5, 0.14, 0.9],
  [2, 0.3, 0.8],
  [2.67, 0.08, 0.4],
];
const STRIKE = { browser: 523.25, app: 659.25 };

export class BellTone {
  #button = document.getElementById("sound");
  #audio;

  constructor() {
    this.#button.addEventListener("click", () => this.toggle());
  }

  toggle() {
    const on = this.#button.getAttribute("aria-pressed") !== "true";
    this.#button.setAttribute("aria-pressed", String(on));
    this.#button.textContent = on ? "Sound on" : "Sound off";
    if (on) {
      this.#audio ??= new AudioContext();
      this.#audio.resume();
      this.ring("browser");
    }
  }

  ring(device) {
    if (this.#button.getAttribute("aria-pressed") !== "true") return;
    const audio = this.#audio;
    const start = audio.currentTime + (device === "app" ? 0.09 : 0);
    for (const [ratio, loudness, seconds] of PARTIALS) {
      const tone = new OscillatorNode(audio, { frequency: (STRIKE[device] ?? 523.25) * ratio });
      const gain = new GainNode(audio, { gain: 0 });
      gain.gain.setValueAtTime(0.0001, start);
      gain.gain.exponentialRampToValueAtTime(0.11 * loudness, start + 0.006);
      gain.gain.exponentialRampToValueAtTime(0.0001, start + seconds);
      tone.connect(gain).connect(audio.destination);
      tone.start(start);
      tone.stop(start + seconds);
    }
  }
}
