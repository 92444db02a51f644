"""Who does what in an archive, with workers that are scripts."""

import csv
from collections import defaultdict, deque
from pathlib import Path

import pytest

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.errors import ConfigError, DataError, MMOVSegError
from mm_ovseg.inference.archive import SceneResult, segment_archive, write_results
from mm_ovseg.inference.archive_worker import Outcome
from mm_ovseg.inference.scene_options import SceneOptions

PLAIN = SceneOptions()
READY, DONE, KILLED = Outcome("ready"), Outcome("done", 0.5), Outcome("failed", error="it was killed", retry=True)
BROKEN = Outcome("failed", error="a.tif is damaged.")


class ScriptedPool:
    """Answers in the order it was asked: builds from ``starts``, scenes from their own scripts, by default well."""

    def __init__(self, size=1, starts=(), **scripts):
        self.size, self._starts = size, deque(starts)
        self._scripts = defaultdict(deque, {name: deque(script) for name, script in scripts.items()})
        self.alive, self.asked, self.most_alive, self._answers, self._count = set(), [], 0, deque(), 0

    def start(self):
        self._count += 1
        self.alive.add(self._count)
        self.most_alive = max(self.most_alive, len(self.alive))
        self._answers.append((self._count, self._starts.popleft() if self._starts else READY))
        return self._count

    def submit(self, worker, scene, output, options):
        assert worker in self.alive and worker not in [busy for busy, _ in self._answers]
        self.asked.append((worker, scene.name, output, options))
        script = self._scripts[scene.name]
        self._answers.append((worker, script.popleft() if script else DONE))

    def wait(self):
        return self._answers.popleft()

    def stop(self, worker):
        self.alive.remove(worker)


def scenes(*names):
    return [SceneFiles(name, (Path(f"{name}.tif"),)) for name in names]


def run(pool, names="abc", retries=2, options=PLAIN, **more):
    return {r.name: r for r in segment_archive(scenes(*names), Path("maps"), options, pool, retries=retries, **more)}


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_one_bad_scene_stops_no_other_and_no_worker(size):
    pool = ScriptedPool(size, a=[BROKEN])
    results = run(pool)
    assert {name: result.status for name, result in results.items()} == {"a": "failed", "b": "done", "c": "done"}
    assert results["a"].error == "a.tif is damaged." and results["a"].output == "" and results["a"].attempts == 1
    assert results["b"].output == str(Path("maps/b.tif").absolute()) and results["b"].sar_share == 0.5
    assert pool.most_alive == min(size, 3) == len(pool.alive)  # none was ended, and none more than scenes started


def test_a_scene_whose_worker_dies_resumes_with_another(caplog):
    pool = ScriptedPool(a=[KILLED, KILLED])
    with caplog.at_level("INFO", logger="mm_ovseg"):
        results = run(pool)
    assert [result.status for result in results.values()] == ["done"] * 3
    assert results["a"].attempts == 3 and results["b"].attempts == 1
    attempts = [(worker, options.resume) for worker, name, _, options in pool.asked if name == "a"]
    assert [resume for _, resume in attempts] == [False, True, True]
    assert len({worker for worker, _ in attempts}) == 3
    assert "Retrying a (it was killed)." in caplog.text


def test_attempts_end_and_the_others_go_on():
    results = run(ScriptedPool(2, b=[KILLED] * 9), retries=1)
    assert [results[name].status for name in "abc"] == ["done", "failed", "done"]
    assert results["b"].attempts == 2
    assert results["b"].error.startswith("Given up after 2 attempts (it was killed); run again with --resume")
    assert run(ScriptedPool(b=[KILLED]), retries=0)["b"].attempts == 1


def test_a_finished_scene_is_skipped_and_its_result_says_so():
    pool = ScriptedPool(b=[Outcome("skipped", 0.25)])
    result = run(pool, options=SceneOptions(resume=True))["b"]
    assert (result.status, result.attempts, result.sar_share) == ("skipped", 0, 0.25) and result.output
    assert all(options.resume for *_, options in pool.asked)


def test_a_scene_has_its_own_area_and_polygons():
    pool = ScriptedPool()
    given = [*scenes("a"), SceneFiles("b", (Path("b.tif"),), area=Path("own.geojson"))]
    shared = SceneOptions(area=Path("all.geojson"), area_layer="fields")
    list(segment_archive(given, Path("maps"), shared, pool, polygons=True))
    assert [(options.area, options.area_layer, options.vector) for *_, options in pool.asked] == [
        (Path("all.geojson"), "fields", Path("maps/a.gpkg")),
        (Path("own.geojson"), None, Path("maps/b.gpkg")),
    ]


def test_a_scene_has_its_own_clouds_and_none_without_rgb():
    pool = ScriptedPool()
    given = [
        *scenes("a"),
        SceneFiles("b", (Path("b.tif"),), clouds=Path("own.tif")),
        SceneFiles("c", (), (Path("c.tif"),)),
    ]
    list(segment_archive(given, Path("maps"), SceneOptions(clouds="all.tif"), pool))
    assert [options.clouds for *_, options in pool.asked] == ["all.tif", Path("own.tif"), None]


def test_workers_that_cannot_start_are_given_up():
    pool = ScriptedPool(2, starts=[READY, KILLED, KILLED])
    assert len(run(pool, "abcdef", retries=1)) == 6 and len(pool.alive) == 1
    with pytest.raises(ConfigError, match=r"No worker can be started \(it was killed\)"):
        run(ScriptedPool(2, starts=[KILLED] * 6))
    pool = ScriptedPool(starts=[KILLED, KILLED])
    assert len(run(pool)) == 3  # the third try went well


def test_a_model_at_fault_ends_the_run_in_its_own_words():
    with pytest.raises(MMOVSegError, match="lacks weights"):
        run(ScriptedPool(2, starts=[Outcome("failed", error="The file lacks weights.")]))
    with pytest.raises(ConfigError, match="retries is -1"):
        run(ScriptedPool(), retries=-1)


def test_the_table_is_written_whole(tmp_path):
    table = tmp_path / "maps" / "results.csv"
    results = [
        SceneResult(name, "r.tif", "", status, 1, 2.5, "", None, error)
        for name, status, error in (("a", "failed", 'Is "odd", or not.'), ("c", "done", ""))
    ]
    for count in (1, 2):
        write_results(table, results[:count])
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "c"]
    assert rows[0]["error"] == 'Is "odd", or not.' and rows[0]["sar_share"] == "" and rows[0]["seconds"] == "2.5"
    assert [path.name for path in table.parent.iterdir()] == ["results.csv"]
    table.unlink()
    table.mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_results(table, results)


def test_each_scene_has_its_own_features(tmp_path):
    pool = ScriptedPool()
    options = SceneOptions(keep_features=tmp_path / "features")
    list(segment_archive(scenes("a", "b"), tmp_path / "maps", options, pool))
    assert [options.keep_features for *_, options in pool.asked] == [tmp_path / "features" / name for name in "ab"]
    (tmp_path / "features" / "b").mkdir(parents=True)
    (tmp_path / "features" / "b" / "photo.jpg").touch()
    with pytest.raises(DataError, match="b holds other files than features"):
        segment_archive(scenes("a", "b"), tmp_path / "maps", options, pool)
    with pytest.raises(DataError, match=r"a\.tif.* both --output-dir and --keep-features"):
        odd = [SceneFiles("a", (Path("a.tif"),)), SceneFiles("a.tif", (Path("b.tif"),))]
        segment_archive(odd, tmp_path / "maps", SceneOptions(keep_features=tmp_path / "maps"), pool)
