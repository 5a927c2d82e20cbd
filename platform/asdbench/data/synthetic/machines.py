"""Seven small machines, healthy and broken, in a noisy room: the physical model behind the embedded data set.

A clip is

    x(t) = g · [ y(t) / rms(y)  +  10^(−SNR/20) · b(t) / rms(b) ],    y = h_mic ∗ h_room ∗ m

with machine sound m, room h_room (direct sound plus Gaussian noise that decays exponentially, 60 dB in
0.2–0.35 s in the source and 0.45–0.6 s in the target domain, 3 dB below the direct sound), microphone h_mic
(a smooth magnitude over log frequency, standard deviation 1 dB in the source and `Machine.shift_db` in the
target domain), factory background b (falling noise, swinging by about 2 dB, with distant blows, 0.4 a
second) and an SNR uniform in `Machine.snr_db`. The gain g sets the whole clip to U(−34, −28) dBFS, so that
loudness does not tell the label. Filtering by room and resonances is circular: a clip starts in the steady
state.

Building blocks
    phase       φ(t) = 2π ∫ f (1 + σ w(t)) dt, w a slow Gaussian process of unit variance: speed jitter
    comb        Σ_k a_k cos(kφ + θ_k): harmonics of a shaft or of a gear mesh (φ times the number of teeth)
    impacts     pulses where φ crosses multiples of 2π, their heights scattered log-normally
    ring        h(t) = Σ_i g_i exp(−t/τ) sin(2π f_i t): resonances of a housing, struck by impacts or by noise
    flow        Gaussian noise with a spectrum given in dB at a few frequencies: turbulence, friction, brushes

Machines (f: shaft rate; after the arrow: what an attribute sets)
    ToyCar      motor comb at f = 2 Hz/V · spd, mesh comb of 8 to 10 teeth swinging with the wheel (f/4),
                brush noise; car -> teeth, resonances and spectrum, mic -> h_mic
    ToyTrain    motor comb at 9 Hz · spd, rolling noise that grows with spd, clicks at the rail joints;
                car -> resonances and spectrum, mic -> h_mic
    bearing     noise of the rollers through the housing's resonances, drive noise, shaft comb;
                vel -> f in Hz, loc -> h_room and h_mic
    fan         comb of 7 blades at 25 Hz, mains hum, turbulence; m-n -> the machine that runs next to it
    gearbox     mesh comb of 21 teeth at f = 12 Hz/V · volt swinging with both shafts, grinding noise;
                wt (g) -> level and brightness of the mesh, a small loss of speed
    slider      a carriage over a stroke of 0.5 m, a thump at each reversal; screw comb and friction follow
                |v(t)|, a trapezoid with limit vel (mm/s) and acceleration ac (g)
    valve       solenoid clicks (opening and closing ring differently), flow while open; pat -> `PATTERNS`

Defects change the mechanism. A severity in [0, 1], spread evenly over the anomalous clips, places the
strength q on a geometric scale between the two limits of `Machine.defects`. q is an amplitude relative to the
rms of the healthy machine, or a depth of modulation or a shift where marked (*).
    ToyCar      bent_shaft* (load swings with the wheel), broken_tooth (impact each wheel turn),
                rubbing_tyre (bursts of noise each wheel turn)
    ToyTrain    flat_wheel (impact each wheel turn), loose_joint (late rattle of the joints),
                dry_axle (squeal)
    bearing     impacts: outer_race (3.58 f), inner_race (5.42 f, swings with the shaft),
                ball (2.36 f, swings with the cage)
    fan         imbalance (f grows and the flow swings), clogged* (turbulence moves up),
                rubbing (scrape each turn)
    gearbox     missing_tooth (gap in the mesh and impact each turn of the wheel), worn* (irregular mesh),
                dry (friction noise)
    slider      rail_damage (impact at one place of the stroke), slip (chatter under acceleration),
                no_grease (squeal that follows |v|)
    valve       leak (hiss while closed), sticking (scrape before a click), bounce (further clicks after it)

Every unit (a car, a room, a microphone) is drawn from the generator keyed by seed, machine type and the
unit's name and is the same in all clips in which it is heard; speed, spectrum, level and SNR vary a little
from clip to clip. The target domain has attribute values, room, microphone curve and background of its own.

The models are our own and as simple as the purpose allows: for a detector they should be neither trivial
nor hopeless; they are not meant to be mistaken for recordings. Limits of strength, SNR and shift are set so
that the autoencoder baseline lands between 0.6 and 0.95 source AUC on each type.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import fft

SAMPLE_RATE_HZ = 16_000
TABLE = 2**15
"""Points of one turn in the table that `comb` reads."""

Signal = NDArray[np.float64]
Spectrum = NDArray[np.complex128]
Combination = Mapping[str, str]

BANDS_HZ = (80, 250, 700, 1600, 3200, 7000)
"""Where the curves of microphones and backgrounds are given."""


def keyed_rng(seed: int, *key: str | int) -> np.random.Generator:
    """Return the generator that belongs to ``key`` under ``seed``, whoever asks and in whatever order."""
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, key)).encode())])


@dataclass(frozen=True)
class Scene:
    """What one clip records: which machine under which conditions, and what is wrong with it."""

    seed: int
    machine_type: str
    domain: str
    attributes: Combination
    defect: str | None
    severity: float
    """Place between the weakest and the strongest defect, 0 to 1."""
    samples: int
    rng: np.random.Generator = field(repr=False)
    """The clip's own randomness."""

    def unit(self, *key: str) -> np.random.Generator:
        """Return the generator of a thing that is the same in every clip: a car, a room, a microphone."""
        return keyed_rng(self.seed, self.machine_type, "unit", *key)

    def number(self, attribute: str) -> float:
        """Return an attribute as a number (``31V`` is 31)."""
        return float(self.attributes[attribute].rstrip("V"))

    def strength(self, defect: str) -> float:
        """Return the strength of ``defect`` in this clip, 0 where the machine does not have it."""
        if defect != self.defect:
            return 0.0
        weakest, strongest = MACHINES[self.machine_type].defects[defect]
        return float(weakest * (strongest / weakest) ** self.severity)


def rms(signal: Signal) -> float:
    """Return the root mean square, never 0."""
    return float(np.sqrt(np.mean(signal**2))) + 1e-12


def decibels(value_db: float) -> float:
    """Return an amplitude factor."""
    return float(10 ** (value_db / 20))


def slow(rng: np.random.Generator, samples: int, rate_hz: float) -> Signal:
    """Return Gaussian noise of unit variance that changes at about ``rate_hz``."""
    knots = int(samples / SAMPLE_RATE_HZ * rate_hz) + 3
    places = np.arange(samples) * (knots - 2) / samples
    return np.asarray(np.interp(places, np.arange(knots), rng.standard_normal(knots)) * np.sqrt(1.5))


def phase(rng: np.random.Generator, samples: int, rate_hz: float | Signal, jitter: float) -> Signal:
    """Return the angle in radians of a shaft that turns at ``rate_hz``, from a random start."""
    speed = rate_hz * (1 + jitter * slow(rng, samples, 3.0))
    return rng.uniform(0, 2 * np.pi) + np.cumsum(speed) * (2 * np.pi / SAMPLE_RATE_HZ)


def comb(rng: np.random.Generator, angle: Signal, amplitudes: Sequence[float] | Signal) -> Signal:
    """Return the harmonics 1, 2, ... of ``angle`` with random phases."""
    starts = np.exp(1j * rng.uniform(0, 2 * np.pi, len(amplitudes)))
    one_turn = np.asarray(fft.irfft(np.concatenate([[0.0], amplitudes * starts]), TABLE)) * (TABLE / 2)
    return np.asarray(one_turn[(angle * (TABLE / (2 * np.pi))).astype(np.int64) % TABLE])


def impacts(rng: np.random.Generator, angle: Signal, scatter: float = 0.2) -> Signal:
    """Return a unit pulse for each turn of ``angle``, scattered in height."""
    struck = np.flatnonzero(np.diff(np.floor(angle / (2 * np.pi)), prepend=np.floor(angle[0] / (2 * np.pi))))
    pulses = np.zeros_like(angle)
    pulses[struck] = np.exp(scatter * rng.standard_normal(len(struck)))
    return pulses


def through(signal: Signal, response: Signal) -> Signal:
    """Return ``signal`` after the impulse ``response``, by circular convolution."""
    spectrum = fft.rfft(signal) * fft.rfft(response, len(signal))
    return np.asarray(fft.irfft(spectrum, len(signal)))


def ring(
    frequencies_hz: Sequence[float] | Signal, decay_s: float, gains: Sequence[float] | None = None
) -> Signal:
    """Return the impulse response of a housing with these resonances."""
    time_s = np.arange(int(min(6 * decay_s, 0.9) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = np.sin(2 * np.pi * np.outer(frequencies_hz, time_s))
    weights = np.ones(len(frequencies_hz)) if gains is None else np.asarray(gains)
    return np.asarray(weights @ tones * np.exp(-time_s / decay_s))


def curve(samples: int, frequencies_hz: Sequence[float], levels_db: Sequence[float] | Signal) -> Signal:
    """Return a magnitude for each bin of the real spectrum, interpolated in dB over log frequency."""
    bins = np.log(np.maximum(np.arange(samples // 2 + 1) * SAMPLE_RATE_HZ / samples, 1.0))
    return np.asarray(10 ** (np.interp(bins, np.log(frequencies_hz), levels_db) / 20))


def flow(
    rng: np.random.Generator,
    samples: int,
    frequencies_hz: Sequence[float],
    levels_db: Sequence[float] | Signal,
) -> Signal:
    """Return Gaussian noise of rms 1 with the spectrum given in dB at ``frequencies_hz``."""
    gaussian = rng.standard_normal(2 * (samples // 2 + 1), dtype=np.float32).view(np.complex64)
    shape = curve(samples, frequencies_hz, levels_db).astype(np.float32)
    noise = np.asarray(fft.irfft(gaussian * shape, samples), dtype=np.float64)
    return noise / rms(noise)


def tint_db(rng: np.random.Generator, points: int, spread_db: float) -> Signal:
    """Return random levels in dB, mean 0 and standard deviation exactly ``spread_db``."""
    levels = rng.standard_normal(points)
    levels -= levels.mean()
    return np.asarray(levels * (spread_db / levels.std()))


def rolled_off(harmonics: int, slope_db: float) -> Signal:
    """Return amplitudes of harmonics that fall by ``slope_db`` an octave."""
    return np.asarray(np.arange(1, harmonics + 1) ** (-slope_db / 6.02))


def struck(pulses: Signal, response: Signal, level: float) -> Signal:
    """Return impacts through resonances at rms ``level``."""
    sound = through(pulses, response)
    return sound * (level / rms(sound))


# The machines


def toy_car(scene: Scene) -> Signal:
    """Return the sound of a model car on rollers."""
    rng, n = scene.rng, scene.samples
    car = scene.unit("car", scene.attributes["car"])
    teeth, body_hz = int(car.integers(8, 11)), car.uniform([450, 1100, 2300], [700, 1600, 3200])
    tint, gear_db = tint_db(car, 4, 1.5), car.uniform(-2, 2)
    volts = scene.number("spd") * (1 + 0.01 * rng.standard_normal())
    motor = phase(rng, n, 2.0 * volts, 0.004)
    wheel = motor / 4
    bent = scene.strength("bent_shaft")
    load = 1 + (0.15 + bent) * np.cos(wheel) + 0.5 * bent * np.cos(2 * wheel + 1)
    shaft = comb(rng, motor, rolled_off(12, 5))
    mesh = comb(rng, teeth * motor, rolled_off(8, 4)) * decibels(gear_db + rng.normal(0, 1))
    brushes = flow(rng, n, (100, 600, 3000, 7000), np.array([-14, -6, 0, -5]) + tint)
    brushes *= decibels((volts - 34) * 0.3 + rng.normal(0, 1))
    sound = 0.6 * shaft + 0.8 * load * mesh + load * brushes
    healthy = rms(sound)
    body = ring(body_hz, 0.008)
    if q := scene.strength("broken_tooth"):
        sound += struck(impacts(rng, wheel), body, q * healthy)
    if q := scene.strength("rubbing_tyre"):
        rub = flow(rng, n, (200, 900, 2500, 7000), (-12, 0, -3, -20))
        sound += q * healthy * rub * (0.3 + np.maximum(np.cos(wheel + 2), 0) ** 3)
    return sound


def toy_train(scene: Scene) -> Signal:
    """Return the sound of a model train on a loop of track."""
    rng, n = scene.rng, scene.samples
    train = scene.unit("car", scene.attributes["car"])
    body_hz, tint = train.uniform([350, 900, 2000], [500, 1300, 2800]), tint_db(train, 4, 1.5)
    squeal_hz = train.uniform(2600, 3400)
    notch = scene.number("spd") * (1 + 0.01 * rng.standard_normal())
    motor = phase(rng, n, 9.0 * notch, 0.006)
    wheel, joint = motor / 10, motor / (9.0 * 4.5)
    rolling = flow(rng, n, (80, 400, 2000, 7000), np.array([-6, 0, -6, -18 + notch]) + tint)
    rolling *= decibels(0.8 * (notch - 8)) * (1 + 0.15 * slow(rng, n, 4.0))
    clicks = impacts(rng, joint) + 0.7 * impacts(rng, joint - 0.6)
    body = ring(body_hz, 0.012)
    sound = 0.5 * comb(rng, motor, rolled_off(20, 4)) + rolling + struck(clicks, body, 0.5)
    healthy = rms(sound)
    if q := scene.strength("flat_wheel"):
        sound += struck(impacts(rng, wheel), body, q * healthy)
    if q := scene.strength("loose_joint"):
        rattle = (
            impacts(rng, joint - 0.1, 0.5) + impacts(rng, joint - 0.25, 0.5) + impacts(rng, joint - 0.8, 0.5)
        )
        sound += struck(rattle, ring(body_hz * 1.6, 0.03), q * healthy)
    if q := scene.strength("dry_axle"):
        squeal = comb(rng, phase(rng, n, squeal_hz, 0.01), (1.0, 0.4))
        sound += q * healthy * squeal * np.maximum(0.4 + np.cos(joint) + 0.5 * slow(rng, n, 8.0), 0)
    return sound


def bearing(scene: Scene) -> Signal:
    """Return the sound of a roller bearing on a test stand."""
    rng, n = scene.rng, scene.samples
    stand = scene.unit("stand")
    housing_hz = stand.uniform([900, 2200, 4200], [1300, 2900, 5200])
    rate_hz = scene.number("vel") * (1 + 0.01 * rng.standard_normal())
    shaft = phase(rng, n, rate_hz, 0.003)
    cage = 0.4 * shaft
    rollers = through(rng.standard_normal(n), ring(housing_hz, 0.003, (1.0, 0.8, 0.6)))
    rollers *= (1 + 0.15 * np.cos(cage)) * decibels(0.15 * (rate_hz - 14) + rng.normal(0, 1)) / rms(rollers)
    drive = flow(rng, n, (60, 300, 1500, 7000), (0, 0, -10, -24 + 0.3 * rate_hz + rng.normal(0, 1)))
    sound = rollers + drive + 0.5 * comb(rng, shaft, rolled_off(25, 3))
    healthy = rms(sound)
    race = ring(housing_hz * 1.25, 0.004)
    if q := scene.strength("outer_race"):
        sound += struck(impacts(rng, 3.58 * shaft), race, q * healthy)
    if q := scene.strength("inner_race"):
        sound += struck(impacts(rng, 5.42 * shaft) * (1 + 0.9 * np.cos(shaft)), race, q * healthy)
    if q := scene.strength("ball"):
        sound += struck(impacts(rng, 2.36 * shaft, 0.5) * (1 + 0.9 * np.cos(cage)), race, q * healthy)
    return sound


def fan(scene: Scene) -> Signal:
    """Return the sound of an industrial fan beside another machine."""
    rng, n = scene.rng, scene.samples
    neighbor = scene.unit("m-n", scene.attributes["m-n"])
    own = scene.unit("fan")
    turn = phase(rng, n, own.uniform(24, 26) * (1 + 0.02 * rng.standard_normal()), 0.004)
    off_balance, clogged = scene.strength("imbalance"), scene.strength("clogged")
    swing = 1 + (0.08 + off_balance) * np.cos(turn)
    air_db = np.array([-3, 0, -5, -14]) + tint_db(own, 4, 1.0) + rng.normal(0, 0.7, 4)
    air = flow(rng, n, (60, 350, 1500, 7000), air_db + clogged * np.array([4, -2, 2, 6]))
    blades = comb(rng, 7 * turn, rolled_off(10, 5)) * decibels(rng.normal(0, 1) + 2 * clogged)
    hum = comb(rng, phase(rng, n, 100.0, 0.0002), (0.3, 0.2, 0.1, 0.05))
    whine = comb(rng, phase(rng, n, neighbor.uniform(300, 900), 0.003), neighbor.uniform(0.05, 0.3, 7))
    hiss = flow(rng, n, (100, 800, 3000, 7000), np.array([-6, 0, -4, -14]) + tint_db(neighbor, 4, 2.0))
    sound = swing * (air + 0.5 * blades) + hum + (0.35 * whine + 0.4 * hiss) * decibels(rng.uniform(-3, 3))
    healthy = rms(sound)
    sound += off_balance * healthy * comb(rng, turn, rolled_off(6, 6))
    if q := scene.strength("rubbing"):
        scrape = flow(rng, n, (300, 1500, 3500, 7000), (-20, -3, 0, -6))
        sound += q * healthy * scrape * (0.2 + np.maximum(np.cos(turn + 1), 0) ** 4)
    return sound


def gearbox(scene: Scene) -> Signal:
    """Return the sound of a pair of gears lifting a weight."""
    rng, n = scene.rng, scene.samples
    own = scene.unit("gears")
    case_hz, tint = own.uniform([700, 1600, 3300], [1000, 2200, 4300]), tint_db(own, 8, 1.0)
    load = scene.number("wt") / 100
    rate_hz = 12.0 * scene.number("volt") * (1 - 0.03 * load) * (1 + 0.03 * rng.standard_normal())
    worn, gap = scene.strength("worn"), scene.strength("missing_tooth")
    motor = phase(rng, n, rate_hz, 0.004 + 0.004 * worn)
    wheel = motor / 3
    mesh_db = tint - (5 - load) * np.log2(np.arange(1, 9)) + 2 * load + rng.normal(0, 0.7, 8)
    mesh = comb(rng, 21 * motor, 10 ** (mesh_db / 20))
    mesh *= 1 + (0.15 + 0.3 * worn) * np.cos(motor) + 0.1 * np.cos(wheel) + worn * slow(rng, n, 40.0)
    if gap:
        mesh *= 1 - min(gap, 1.0) * (np.cos(wheel) > 0.9)
    grind = flow(rng, n, (80, 500, 2500, 7000), np.array([-4, 0, -6, -16]) + rng.normal(0, 0.7, 4))
    grind *= decibels(0.15 * (rate_hz - 20) + load)
    sound = mesh + grind + 0.4 * comb(rng, motor, rolled_off(15, 4))
    healthy = rms(sound)
    if gap:
        sound += struck(impacts(rng, wheel), ring(case_hz, 0.006), gap * healthy)
    if q := scene.strength("dry"):
        sound += (
            q * healthy * (1 + 0.5 * np.cos(wheel)) * flow(rng, n, (200, 1500, 4000, 7000), (-25, -3, 0, -4))
        )
    return sound


def stroke(scene: Scene, length_m: float, rest_s: float) -> tuple[Signal, Signal, Signal]:
    """Return position (m), speed (m/s) and acceleration (m/s²) of a carriage that goes to and fro."""
    rng = scene.rng
    limit, pull = scene.number("vel") / 1000, scene.number("ac") * 9.81
    limit = min(limit * (1 + 0.01 * rng.standard_normal()), np.sqrt(length_m * pull))
    ramp_s, travel_s = limit / pull, length_m / limit + limit / pull
    time_s = np.arange(scene.samples) / SAMPLE_RATE_HZ + rng.uniform(0, 2 * (travel_s + rest_s))
    turn, within = np.divmod(time_s, travel_s + rest_s)
    speed = np.clip(np.minimum(within, travel_s - within) / ramp_s, 0, 1) * limit
    gain = np.where(
        within < ramp_s, pull, np.where((within > travel_s - ramp_s) & (within < travel_s), -pull, 0.0)
    )
    covered = np.where(
        within < ramp_s,
        pull * within**2 / 2,
        np.where(
            within < travel_s - ramp_s,
            limit * (within - ramp_s / 2),
            length_m - pull * np.maximum(travel_s - within, 0) ** 2 / 2,
        ),
    )
    place = np.where(turn % 2 == 0, covered, length_m - covered)
    return place, speed, gain


def slider(scene: Scene) -> Signal:
    """Return the sound of a carriage on a linear rail."""
    rng, n = scene.rng, scene.samples
    own = scene.unit("rail")
    frame_hz, tint = own.uniform([180, 600, 1500], [260, 900, 2100]), tint_db(own, 4, 1.0)
    damage_m, squeal_hz = own.uniform(0.15, 0.35), own.uniform(2500, 3500)
    place, speed, gain = stroke(scene, 0.5, 0.15)
    screw = phase(rng, n, speed / 0.01, 0.004)
    drive = comb(rng, 6 * screw, rolled_off(10, 3)) * speed**0.3
    friction = flow(
        rng, n, (100, 700, 3000, 7000), np.array([-10, 0, -3, -12]) + tint + rng.normal(0, 0.7, 4)
    )
    reversals = np.abs(np.diff(gain, prepend=gain[0])) / 9.81
    frame = ring(frame_hz, 0.025)
    sound = 0.4 * drive + friction * speed**0.8 + 0.8 * through(reversals, frame)
    healthy = rms(sound)
    if q := scene.strength("rail_damage"):
        beyond = place > damage_m
        passes = (beyond != np.roll(beyond, 1)) * (0.3 + speed)
        sound += struck(passes.astype(np.float64), ring(frame_hz * 3.1, 0.02), q * healthy)
    if q := scene.strength("slip"):
        chatter = flow(rng, n, (200, 1000, 3000, 7000), (-9, 0, -3, -15))
        chatter *= (np.abs(gain) > 0) * (1 + np.cos(phase(rng, n, 23.0, 0.05))) * np.sqrt(speed)
        sound += chatter * (q * healthy / rms(chatter))
    if q := scene.strength("no_grease"):
        squeal = comb(rng, phase(rng, n, squeal_hz * (1 + 0.1 * speed), 0.004), (1.0, 0.3)) * speed
        sound += squeal * (q * healthy / rms(squeal))
    return sound


PATTERNS: Mapping[str, tuple[float, Sequence[tuple[float, float]]]] = {
    "00": (1.00, [(0.00, 0.30)]),
    "01": (1.60, [(0.00, 0.20), (0.50, 0.90)]),
    "02": (1.25, [(0.00, 0.45)]),
    "03": (2.00, [(0.00, 0.15), (0.35, 0.50), (0.80, 1.30)]),
}
"""Period in s and the (open, close) times in it, by pattern."""


def strike(rng: np.random.Generator, pulses: Signal, moment: int) -> None:
    """Put one pulse of scattered height into ``pulses``, if it falls into the clip."""
    height = np.exp(0.1 * rng.standard_normal())
    if 0 <= moment < len(pulses):
        pulses[moment] = height


def valve(scene: Scene) -> Signal:
    """Return the sound of a solenoid valve that works a pattern."""
    rng, n = scene.rng, scene.samples
    own = scene.unit("valve")
    open_hz, close_hz = (
        own.uniform([900, 2300, 4300], [1300, 3000, 5400]),
        own.uniform([600, 1700, 3600], [900, 2200, 4400]),
    )
    tint = tint_db(own, 4, 1.0)
    period_s, gates_s = PATTERNS[scene.attributes["pat"]]
    opening, closing, bounces = np.zeros(n), np.zeros(n), np.zeros(n)
    is_open, before = np.zeros(n), np.zeros(n)
    start_s = -rng.uniform(0, period_s)
    while start_s * SAMPLE_RATE_HZ < n:
        for gate_s in gates_s:
            moments = [round((start_s + s + 0.004 * rng.standard_normal()) * SAMPLE_RATE_HZ) for s in gate_s]
            is_open[max(moments[0], 0) : max(moments[1], 0)] = 1
            for pulses, moment in zip((opening, closing), moments, strict=True):
                before[max(moment - 1600, 0) : max(moment, 0)] = 1
                strike(rng, pulses, moment)
                for gap_s in (0.04, 0.075, 0.105, 0.13):
                    strike(rng, bounces, moment + round(gap_s * rng.uniform(0.9, 1.1) * SAMPLE_RATE_HZ))
        start_s += period_s
    clicks = through(opening, ring(open_hz, 0.010)) + 0.7 * through(closing, ring(close_hz, 0.014))
    stream = flow(rng, n, (100, 800, 3000, 7000), np.array([-16, -4, 0, -6]) + tint + rng.normal(0, 0.7, 4))
    sound = clicks / rms(clicks) + 0.5 * is_open * stream
    healthy = rms(sound)
    if q := scene.strength("bounce"):
        sound += struck(bounces, ring(close_hz * 1.3, 0.012), q * healthy)
    if q := scene.strength("leak"):
        sound += q * healthy * (1 - is_open) * flow(rng, n, (300, 2000, 4500, 6500), (-30, -14, -2, 0))
    if q := scene.strength("sticking"):
        sound += q * healthy * before * flow(rng, n, (100, 700, 2000, 7000), (-10, 0, -2, -16))
    return sound


# The room


@functools.lru_cache(maxsize=64)
def path_to_recorder(
    seed: int, machine_type: str, domain: str, spot: str, microphone: str, samples: int
) -> Spectrum:
    """Return the frequency response of room and microphone at one spot, ``samples // 2 + 1`` bins."""
    target = domain == "target"
    room = keyed_rng(seed, machine_type, "room", domain, spot)
    reverberation_s = room.uniform(0.45, 0.6) if target else room.uniform(0.2, 0.35)
    time_s = np.arange(int(0.6 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    response = room.standard_normal(len(time_s)) * np.exp(-6.9 * time_s / reverberation_s)
    response *= 0.7 / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    shift_db = MACHINES[machine_type].shift_db if target else 1.0
    levels_db = tint_db(
        keyed_rng(seed, machine_type, "microphone", domain, spot, microphone), len(BANDS_HZ), shift_db
    )
    return np.asarray(fft.rfft(response, samples) * curve(samples, BANDS_HZ, levels_db))


def recorded(scene: Scene, sound: Signal) -> Signal:
    """Return ``sound`` after room and microphone, with the factory behind it, at a level that varies."""
    rng, n = scene.rng, scene.samples
    spot, microphone = scene.attributes.get("loc", ""), scene.attributes.get("mic", "")
    path = path_to_recorder(scene.seed, scene.machine_type, scene.domain, spot, microphone, n)
    heard = np.asarray(fft.irfft(fft.rfft(sound) * path, n))

    levels_db = np.array([0, -3, -8, -14, -20, -28]) + tint_db(scene.unit("factory", scene.domain), 6, 1.5)
    factory = flow(rng, n, BANDS_HZ, levels_db + rng.normal(0, 1.0, 6)) * np.exp(0.25 * slow(rng, n, 2.0))
    for start in rng.integers(0, n, rng.poisson(0.4 * n / SAMPLE_RATE_HZ)):
        blow = 4.0 * ring(rng.uniform(300, 2500, 3), 0.05)
        factory[start : start + len(blow)] += blow[: n - start]

    snr_db = rng.uniform(*MACHINES[scene.machine_type].snr_db)
    mixed = heard / rms(heard) + factory * (decibels(-snr_db) / rms(factory))
    mixed *= decibels(rng.uniform(-34, -28)) / rms(mixed)
    return mixed * min(1.0, 0.95 / float(np.max(np.abs(mixed))))


@dataclass(frozen=True)
class Machine:
    """A machine type: its sound, its attribute values by domain, its defects."""

    sound: Callable[[Scene], Signal]
    source: Sequence[Combination]
    target: Sequence[Combination]
    """Combinations of the target domain, in training and in test."""
    defects: Mapping[str, tuple[float, float]]
    """Weakest and strongest strength of each defect."""
    test_only: Sequence[Combination] = ()
    """Combinations of the target domain that occur in the test split only."""
    snr_db: tuple[float, float] = (3.0, 12.0)
    shift_db: float = 2.0
    """Standard deviation of the target microphone's curve; the source's is 1 dB."""


def combinations(names: str, *rows: str) -> list[Combination]:
    """Return attribute combinations from their names and from rows of values."""
    return [dict(zip(names.split(), row.split(), strict=True)) for row in rows]


def product(car: str, spd: str, mic: str) -> list[Combination]:
    """Return every combination of car and speed for one microphone."""
    return [{"car": c, "spd": s, "mic": mic} for c in car.split() for s in spd.split()]


MACHINES: Mapping[str, Machine] = {
    "ToyCar": Machine(
        toy_car,
        product("B1 B2 C1", "31V 34V 40V", "1"),
        product("A1 E1", "28V 37V", "2"),
        {"bent_shaft": (0.25, 1.0), "broken_tooth": (0.2, 1.0), "rubbing_tyre": (0.35, 1.5)},
    ),
    "ToyTrain": Machine(
        toy_train,
        product("B1 C1 D1", "7 8 10", "1"),
        product("A1 E1", "6 9", "2"),
        {"flat_wheel": (0.21, 0.98), "loose_joint": (0.21, 1.12), "dry_axle": (0.11, 0.63)},
    ),
    "bearing": Machine(
        bearing,
        combinations("vel loc", "8 A", "13 A", "16 A", "21 A", "8 B", "16 B"),
        combinations("vel loc", "11 A", "15 A", "19 A", "8 E", "16 E"),
        {"outer_race": (0.06, 0.35), "inner_race": (0.05, 0.3), "ball": (0.08, 0.45)},
        combinations("vel loc", "3 A", "25 A"),
        shift_db=2.0,
    ),
    "fan": Machine(
        fan,
        combinations("m-n", "W", "X"),
        combinations("m-n", "Y", "Z"),
        {"imbalance": (0.2, 0.9), "clogged": (0.4, 1.8), "rubbing": (0.2, 1.0)},
        shift_db=1.3,
    ),
    "gearbox": Machine(
        gearbox,
        combinations("volt wt", "1.0 0", "1.5 0", "2.0 0", "3.0 0", "1.5 100", "1.5 200"),
        combinations("volt wt", "1.3 0", "1.8 0", "2.8 0", "1.5 30", "1.5 130"),
        {"missing_tooth": (0.15, 1.0), "worn": (0.15, 0.8), "dry": (0.1, 0.6)},
        combinations("volt wt", "0.8 0", "3.3 0"),
        shift_db=0.5,
        snr_db=(0.0, 9.0),
    ),
    "slider": Machine(
        slider,
        combinations("vel ac", "300 0.30", "500 0.30", "900 0.30", "490 0.05", "660 0.09"),
        combinations("vel ac", "400 0.30", "600 0.30", "1000 0.30", "540 0.06"),
        {"rail_damage": (0.4, 1.8), "slip": (0.4, 1.8), "no_grease": (0.15, 0.9)},
        combinations("vel ac", "310 0.02", "760 0.12"),
        shift_db=0.5,
        snr_db=(-2.0, 5.0),
    ),
    "valve": Machine(
        valve,
        combinations("pat", "00", "01"),
        combinations("pat", "02", "03"),
        {"leak": (0.1, 0.5), "sticking": (0.3, 1.6), "bounce": (0.2, 1.0)},
        shift_db=1.2,
        snr_db=(-4.0, 3.0),
    ),
}


def record(scene: Scene) -> Signal:
    """Return the recording of a scene, samples in (−1, 1) at 16 kHz."""
    return recorded(scene, MACHINES[scene.machine_type].sound(scene))
