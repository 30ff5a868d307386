"""What the page computes of a drawn curve, in node, against the package; and what the build writes for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from dsaml.arena.base import ArenaConfig, Backbone
from dsaml.arena.low_rank import LowRank
from dsaml.config import DEMO
from dsaml.data import Song
from dsaml.data.base import PARTS, Dataset, Split
from dsaml.errors import DsamlError
from dsaml.evaluate import metrics
from dsaml.experiment.results import provenance, read_result, write_result
from dsaml.learn.loop import TrainingOptions
from dsaml.listen import page
from dsaml.listen.curves import COLUMNS, read_curve, write_curve
from dsaml.listen.light import LightModel

NODE = shutil.which("node")
LIGHT = Path(__file__).parents[2] / "dsaml/listen/player/light.js"
RESULTS = Path(__file__).parents[2] / "results/demo"
STEPS, START = 24, DEMO.audio.label_start
in_node = pytest.mark.skipif(NODE is None, reason="node, which runs the page's mathematics here, is not on this machine")


def javascript(code: str, **given: Any) -> Any:
    """What a function with this body returns: ``light`` is the page's mathematics, ``given`` the arguments."""
    program = f"require({json.dumps(str(LIGHT))}); const light = globalThis.dsamlLight;"
    program += "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    program += f"process.stdout.write(JSON.stringify((() => {{ {code} }})()));"
    done = subprocess.run([NODE, "-e", program], input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def model() -> LightModel:
    """Untrained, but it hears differences, and says how unsure it is."""
    torch.manual_seed(0)
    config = ArenaConfig(width=16)
    method = LowRank(Backbone(128, config), config).eval()
    method.calibration = torch.tensor([[1.3, 0.9], [0.05, 0.02], [0.02, 0.01]])
    method.noise.data = torch.tensor([0.2, 1.1])
    scale = torch.stack((torch.full((128,), -6.0), torch.ones(128)))
    stamp = {"dataset": "synthetic", "profile": "demo", "real": False, "seeds": [0]}
    return LightModel(method, scale, DEMO, stamp, "the model")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three songs that swell at different paces, as long as their labels need."""
    folder, rng = tmp_path_factory.mktemp("songs"), np.random.default_rng(0)
    time = np.arange(round((START + STEPS / 2 + 1) * 22_050)) / 22_050
    for k in range(3):
        loud = 0.5 + 0.45 * np.sin(time / (k + 1.5))
        sound = 0.3 * loud * np.sin((220 + 60 * k) * time) + 0.003 * rng.normal(size=len(time))
        sf.write(folder / f"{k}.wav", sound, 22_050)
    return {str(k): folder / f"{k}.wav" for k in range(3)}


def drawn(k: int) -> list[list[float]]:
    """Somebody's curve (STEPS, 2) of song k; it touches the ends of the scale."""
    time = np.arange(STEPS) / 2
    curve = np.stack([1.2 * np.sin(time / (k + 1.5)), 0.5 * np.cos(time / (k + 2.0)) - 0.3], 1)
    return np.round(curve.clip(-1, 1), 4).tolist()


@in_node
def test_the_page_finds_the_same_listener_as_the_package(
    model: LightModel, songs: dict[str, Path], tmp_path: Path
) -> None:
    """From what the page saves, personalize and predict give the page's curve; the variance is the package's too."""
    told = page.for_page(model, songs, STEPS)
    code = """
        const said = given.curves.map((curve, k) => ({ song: given.told.songs[k], curve }));
        const listener = light.adapt(given.told, said), ask = (who) => light.predict(given.told, who, given.told.songs[2]);
        const files = given.curves.map((curve) => light.toCsv(curve, given.start, 0.5));
        return { files, own: ask(listener), nobody: ask(light.adapt(given.told, [])) };
    """
    found = javascript(code, told=told, curves=[drawn(0), drawn(1)], start=START)
    files = [tmp_path / f"{k}.csv" for k in range(2)]
    for file, text in zip(files, found["files"], strict=True):
        file.write_text(text)
    own = model.personalize([songs["0"], songs["1"]], files)
    for who, curve in ((own, found["own"]["mean"]), (model, found["nobody"]["mean"])):
        expected = who.predict(songs["2"], start=START)[["arousal", "valence"]].to_numpy()[:STEPS]
        assert np.abs(np.array(curve) - expected).max() < 1e-4
    assert np.abs(np.array(found["own"]["mean"]) - found["nobody"]["mean"]).max() > 0.1
    heard = model.heard(songs["2"], STEPS)
    with torch.no_grad():
        expected = model.method.predict(own.listener, heard).variance[0, 0].sqrt().numpy()
    assert np.abs(np.array(found["own"]["sd"]) - expected).max() < 1e-4
    assert np.mean(found["own"]["sd"]) < np.mean(found["nobody"]["sd"])


PLAYED = """
    const { light: told, listeners, average } = given, own = [0, 0], plain = [0, 0], people = new Set();
    let pairs = 0;
    for (const song of Object.keys(listeners)) for (const [who, curve] of Object.entries(listeners[song])) {
      const person = light.adapt(told, [{ song: told.songs[song], curve }]);
      for (const other of Object.keys(listeners)) if (other !== song && who in listeners[other]) {
        const curve = light.predict(told, person, told.songs[other]).mean, truth = listeners[other][who];
        [0, 1].forEach((d) => { own[d] += light.ccc(curve, truth, d); plain[d] += light.ccc(average[other], truth, d); });
        pairs += 1;
        people.add(who);
      }
    }
    const means = (sums) => sums.map((sum) => sum / pairs);
    return { own: means(own), average: means(plain), pairs, listeners: people.size };
"""
"""Every listener draws one song; the page's code predicts their others."""


def played(told: dict[str, Any], listeners: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the page's code makes of all listeners' curves, one song at a time."""
    average = {song: np.mean(list(of.values()), 0).tolist() for song, of in listeners.items()}
    return javascript(PLAYED, light=told, listeners=listeners, average=average)


@in_node
def test_the_page_s_code_gains_what_the_package_says(model: LightModel, songs: dict[str, Path]) -> None:
    listeners = {song: {f"p{who}": drawn(int(song) + who) for who in range(3)} for song in songs}
    del listeners["1"]["p2"]
    figure = page.gain(model, songs, listeners)
    found = played(page.for_page(model, songs, STEPS), listeners)
    assert found["pairs"] == figure["pairs"] == 14 and found["listeners"] == figure["listeners"] == 3
    assert found["own"] == pytest.approx(figure["own"], abs=1e-4)
    assert found["average"] == pytest.approx(figure["average"], abs=1e-9)


@in_node
@pytest.mark.skipif(not (RESULTS / "light.json").is_file(), reason="results/demo is not there; 'make book' computes it")
def test_on_the_embedded_listeners_one_song_is_worth_more_than_the_average() -> None:
    """Unseen listeners of the embedded corpus, played through the page's code: the package's figure, and above the average."""
    told, player = read_result(RESULTS / "light.json"), read_result(RESULTS / "player.json")
    found = played(told, {song["id"]: song["listeners"] for song in player["songs"]})
    assert found["own"] == pytest.approx(told["gain"]["own"], abs=1e-3)
    assert found["average"] == pytest.approx(told["gain"]["average"], abs=1e-6)
    assert all(own > average for own, average in zip(found["own"], found["average"], strict=True))


@in_node
def test_a_passage_tells_of_its_own_steps_only(model: LightModel, songs: dict[str, Path]) -> None:
    told = page.for_page(model, songs, STEPS)
    half = [[a, v] if 5 <= k < 15 else [None, None] for k, (a, v) in enumerate(drawn(0))]
    code = "return light.adapt(given.told, [{ song: given.told.songs[0], curve: given.half }]).map(({ w }) => w);"
    w = javascript(code, told=told, half=half)
    with torch.no_grad():
        heard = model.heard(songs["0"], STEPS)[:, :, 5:15]
        state = model.method.adapt(heard, torch.tensor(drawn(0)[5:15])[None, None])
    assert np.abs(np.array(w) - state["w"][0].numpy()).max() < 1e-4


@in_node
def test_scores_are_the_packages() -> None:
    a, b, flat = drawn(0), drawn(1), [[0.3, 0.3]] * STEPS
    code = """
        const part = given.a.map((value, k) => (k < 12 ? value : [null, null]));
        return {
          ccc: [0, 1].map((d) => light.ccc(given.a, given.b, d)), flat: light.ccc(given.a, given.flat, 0),
          rmse: light.rmse(given.a, given.b, [0, 1]), part: light.ccc(part, given.b, 1),
          nearest: light.nearest(given.a, { x: given.b, y: given.a, z: given.flat }, [0]), drawn: light.drawn(part),
        };
    """
    found = javascript(code, a=a, b=b, flat=flat)
    x, y = np.array(a).T, np.array(b).T
    assert found["ccc"] == pytest.approx(metrics.ccc(x, y).tolist(), abs=1e-12)
    assert found["part"] == pytest.approx(float(metrics.ccc(x[1, :12], y[1, :12])), abs=1e-12)
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.square(x - y).mean())), abs=1e-12)
    assert found["flat"] == 0 and found["nearest"] == "y" and found["drawn"] == [0, 1]


@in_node
def test_a_hand_is_written_down_at_every_label_that_it_passes() -> None:
    code = """
        const curve = light.blank(20), moments = [[2.1, 0], [3.4, 1.3], [3.45, 1.35], [6, 0.2]];
        let last = null;
        for (const [seconds, value] of moments) {
          light.fill(curve, [0], last, { seconds, value: [value, 9] }, 0.5);
          last = { seconds, value: [value, 9] };
        }
        light.fill(curve, [1], null, { seconds: 9.9, value: [9, -0.5] }, 0.5);
        return curve;
    """
    arousal, valence = zip(*javascript(code), strict=True)
    expected = [0, 0.4, 0.9, *np.interp([3.5, 4, 4.5, 5, 5.5, 6], [3.45, 6], [1.35, 0.2])]
    assert arousal[4:13] == pytest.approx(expected) and set(arousal[:4] + arousal[13:]) == {None}
    assert set(valence) == {None}  # the clip's last label was at 9.5 s


@in_node
def test_curves_come_back_from_files_of_any_rate(tmp_path: Path) -> None:
    time = np.arange(START - 3, START + 8.05, 0.1)
    curve = pd.DataFrame({"time_s": time, "arousal": np.sin(time), "valence": np.cos(time)})
    write_curve(tmp_path / "c.csv", curve)
    text = "\ufeff" + (tmp_path / "c.csv").read_text().replace("\n", "\r\n")
    found = javascript("return light.fromCsv(given.text, given.start, 0.5, 24);", text=text, start=START)
    labels = START + np.arange(17) / 2
    expected = np.stack([np.interp(labels, curve.time_s, curve[name]) for name in COLUMNS[1:]], 1)
    assert np.abs(np.array(found[:17], float) - expected).max() < 1e-3
    assert found[17:] == [[None, None]] * 7


ROWS = [f"{START + k / 2},0.1,0.2" for k in range(STEPS)]


@in_node
@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["time_s,arousal", *ROWS],
        ["time_s,arousal,valence", *ROWS[:5], "20,x,0", *ROWS[12:]],
        ["time_s,arousal,valence", *ROWS[:5], "17.5,,0", *ROWS[12:]],
        ["time_s,arousal,valence", *ROWS[:5], *ROWS[12:]],
        ["time_s,arousal,valence", *ROWS, ROWS[0]],
        ["time_s,arousal,valence", *ROWS, "27.5,1.1,0"],
        ["time_s,arousal,valence", *ROWS[:6]],
    ],
)
def test_what_the_package_refuses_the_page_refuses_in_a_sentence(lines: list[str], tmp_path: Path) -> None:
    code = "try { return light.fromCsv(given.text, given.start, 0.5, 24); } catch (error) { return error.message; }"
    said = javascript(code, text="\n".join(lines), start=START)
    assert isinstance(said, str) and said.endswith(".") and "\n" not in said
    (tmp_path / "c.csv").write_text("\n".join(lines))
    model = LightModel(None, None, DEMO, {}, "")  # type: ignore[arg-type]
    with pytest.raises(DsamlError, match=r"c\.csv"):
        model.personalize(tmp_path / "none.wav", tmp_path / "c.csv")


@in_node
def test_a_curve_that_personalize_would_refuse_is_not_saved() -> None:
    code = "try { return light.toCsv(given.curve, 15, 0.5); } catch (error) { return error.message; }"
    curve = drawn(0)
    short = [value if k < 9 else [None, None] for k, value in enumerate(curve)]
    only_arousal = [[a, None] for a, _ in curve]
    gap = [[None, v] if 5 <= k < 10 else [a, v] for k, (a, v) in enumerate(curve)]
    said = [javascript(code, curve=bad) for bad in (short, only_arousal, gap)]
    assert "needs both" in said[0] and "needs both" in said[1] and "Between 2.0 and 5.0 s" in said[2]


@in_node
def test_a_saved_curve_is_the_drawn_one(tmp_path: Path) -> None:
    text = javascript("return light.toCsv(given.curve, given.start, 0.5);", curve=drawn(1), start=START)
    (tmp_path / "c.csv").write_text(text)
    saved = read_curve(tmp_path / "c.csv")
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert saved.time_s.tolist() == [START + k / 2 for k in range(STEPS)]
    assert np.allclose(saved[["arousal", "valence"]], drawn(1), atol=1e-4)


def test_the_build_writes_the_terms_of_the_players_songs(
    model: LightModel, songs: dict[str, Path], tmp_path: Path
) -> None:
    stamp = provenance(DEMO, None, seeds=[0], seconds=1.0, real=False)
    shown = [{"id": name, "listeners": {"p": drawn(int(name)), "q": drawn(3)}} for name in ("0", "2")]
    player = {"seconds": STEPS / 2, "step": 0.5, "songs": shown}
    write_result(tmp_path / "player.json", player, stamp)
    own = {k: Song(k, path, True) for k, path in songs.items()}
    nobody = dict.fromkeys(PARTS, ())
    dataset = Dataset("synthetic", False, tmp_path, own, mean={}, tracks={}, split=Split(nobody, nobody))
    experiment = SimpleNamespace(profile=DEMO, dataset=dataset, options=TrainingOptions())
    page.write(model, experiment, tmp_path)  # type: ignore[arg-type]
    written = read_result(tmp_path / "light.json")
    assert list(written["songs"]) == ["0", "2"]
    assert np.shape(written["songs"]["2"]["basis"]) == (STEPS, 2, LowRank.RANK + 1)
    expected = model.predict(songs["2"], start=START)[["arousal", "valence"]].to_numpy()[:STEPS]
    assert np.allclose(np.tanh(written["songs"]["2"]["base"]), expected, atol=1e-5)
    assert "never heard real music" in written["origin"]
    assert (tmp_path / "light.json").stat().st_size < 2 * STEPS * 12 * 60  # indented, two songs
