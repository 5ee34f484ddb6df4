"""The commands of the simulation at their smallest: tables, JSON and a drawing."""

import json
from xml.etree import ElementTree as ET

import pytest

from benchmarks.__main__ import main


def test_batches_are_told_and_drawn(capsys, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "flow.svg"
    words = ["--quick", "--json", str(figures), "flow", "--clients", "library,jitter", "--worlds", "rate10,slots20"]
    main([*words, "--svg", str(picture)])
    told = capsys.readouterr().out
    assert "makespan / ideal" in told
    assert "this library" in told
    runs = json.loads(figures.read_text())["flow"]["runs"]
    assert set(runs) == {"library", "jitter"}
    assert runs["library"]["rate10"][0]["lost"] == 0
    dots = ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}title")
    assert sum(1 for _ in dots) == 2 * (2 + 1 + 2)


def test_looks_are_told_and_drawn(capsys, tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "polls.svg"
    main(["polls", "--quick", "--clients", "library,robin", "--json", str(figures), "--svg", str(picture)])
    told = capsys.readouterr().out
    assert "round robin" in told
    assert "best schedule" in told
    found = json.loads(figures.read_text())["polls"]
    assert [each["client"] for each in found["found"]] == ["library", "robin"]
    assert found["limits"]["3.0"]["best"] == pytest.approx(9.72, abs=0.05)
    assert "<svg" in picture.read_text()


def test_a_client_that_nobody_knows_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["flow", "--clients", "library,nobody"])
    assert "'nobody' is none of library" in capsys.readouterr().err
