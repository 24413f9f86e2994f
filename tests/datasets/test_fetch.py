"""Fetchers on files that a test writes; nothing is downloaded."""

import numpy as np
import pandas as pd
import pytest

from influencekit.datasets import (
    _concrete,
    fetch_acs,
    fetch_acs_income,
    fetch_uci_concrete,
    get_data_home,
)

INCOME = ["AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P"]


def people(n, seed=0):
    """Rows of a census file, some of which the task's filter drops."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(1, 9, n) for name in INCOME})
    frame["AGEP"] = rng.integers(10, 80, n)
    frame["WKHP"] = rng.integers(0, 60, n)
    frame["PINCP"] = rng.integers(0, 100_000, n)
    frame["PWGTP"] = rng.integers(0, 3, n)
    return frame


class TestFolktables:
    """The package's own files, found in the data folder."""

    @pytest.fixture
    def home(self, tmp_path):
        pytest.importorskip("folktables")
        folder = tmp_path / "folktables" / "2018" / "1-Year"
        folder.mkdir(parents=True)
        people(60, 0).to_csv(folder / "psam_p25.csv", index=False)
        people(40, 1).to_csv(folder / "psam_p06.csv", index=False)
        return tmp_path

    def test_rows_are_those_of_the_filter(self, home):
        found = fetch_acs_income(["MA", "CA"], data_home=home, download_if_missing=False)
        both = pd.concat([people(60, 0), people(40, 1)], ignore_index=True)
        kept = both.query("AGEP > 16 and PINCP > 100 and WKHP > 0 and PWGTP >= 1")
        assert 0 < len(kept) < 100
        np.testing.assert_array_equal(found.data.astype(int), kept[INCOME])
        np.testing.assert_array_equal(found.target, kept["PINCP"] > 50_000)
        np.testing.assert_array_equal(found.group, kept["RAC1P"])
        assert found.source == "folktables, 2018 1-Year"

    def test_codes_are_categories_and_numbers_are_numbers(self, home):
        found = fetch_acs_income("MA", data_home=home)
        assert set(found.categorical_features) == set(INCOME) - {"AGEP", "WKHP"}
        assert all(found.data[name].dtype == "category" for name in found.categorical_features)
        X, y = fetch_acs_income("MA", data_home=home, as_frame=False, return_X_y=True)
        assert X.dtype == float
        np.testing.assert_array_equal(X, found.data.astype(float))
        assert set(np.unique(y)) == {0, 1}

    def test_missing_state_is_named(self, home):
        with pytest.raises(OSError, match=r"ACSIncome: no file for \['NY'\]"):
            fetch_acs_income(["MA", "NY"], data_home=home, download_if_missing=False)

    def test_unknown_task_lists_those_there_are(self, home):
        with pytest.raises(ValueError, match=r"task: got 'ACSIncom'; accepted are .*'ACSMobility'"):
            fetch_acs("ACSIncom", "MA", data_home=home)


class TestSample:
    """The prepared 40 % sample."""

    @pytest.fixture
    def home(self, tmp_path):
        rng = np.random.default_rng(0)
        arrays = {name: rng.integers(0, 9, 30).astype(np.uint8) for name in INCOME}
        state = np.repeat([6, 25, 36], 10).astype(np.uint8)
        y, row = rng.integers(0, 2, 30).astype(np.uint8), np.arange(100, 130, dtype=np.uint32)
        np.savez(tmp_path / "acs_income_2018_40pct.npz", ST=state, y=y, row=row, **arrays)
        self.arrays, self.y = arrays, y
        return tmp_path

    def test_rows_of_the_states(self, home):
        found = fetch_acs_income(["MA"], data_home=home, download_if_missing=False)
        np.testing.assert_array_equal(found.target, self.y[10:20])
        for name in INCOME:
            np.testing.assert_array_equal(found.data[name], self.arrays[name][10:20])
        np.testing.assert_array_equal(found.data.index, np.arange(110, 120))
        assert found.frame.shape == (10, 11)
        assert "40 %" in found.source

    def test_of_another_year_there_is_no_sample(self, home):
        pytest.importorskip("folktables")
        with pytest.raises(OSError, match="no file for"):
            fetch_acs_income("MA", 2017, data_home=home, download_if_missing=False)

    def test_state_without_rows(self, home):
        with pytest.raises(ValueError, match=r"states: .* does not have rows of \['TX'\]"):
            fetch_acs_income("TX", data_home=home)


@pytest.mark.parametrize(
    ("states", "message"),
    [("ca", "Did you mean 'CA'"), ([], "empty list"), (["California"], "postal codes such as")],
)
def test_wrong_states(states, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fetch_acs_income(states, data_home=tmp_path)


def test_wrong_horizon_and_year(tmp_path):
    with pytest.raises(ValueError, match="survey_horizon: got '1-year'"):
        fetch_acs_income("CA", survey_horizon="1-year", data_home=tmp_path)
    for year in (2018.5, "latest", None, 18):
        with pytest.raises(ValueError, match=f"survey_year: got {year!r}"):
            fetch_acs_income("MA", year, data_home=tmp_path)


class TestConcrete:
    """From a file, from OpenML, and from neither."""

    def frame(self):
        return pd.DataFrame(np.random.default_rng(0).random((1030, 9)))

    def test_from_a_file(self, tmp_path):
        frame = self.frame()
        (tmp_path / "uci_concrete").mkdir()
        frame.to_csv(tmp_path / "uci_concrete" / "concrete.csv.gz", index=False)
        X, y = fetch_uci_concrete(data_home=tmp_path, return_X_y=True)
        np.testing.assert_allclose(X, frame.iloc[:, :8])
        np.testing.assert_allclose(y, frame.iloc[:, 8])
        found = fetch_uci_concrete(data_home=tmp_path, as_frame=True)
        assert found.feature_names[0] == "cement"
        assert found.frame.columns[-1] == found.target_name == "strength"

    def test_from_openml(self, tmp_path, monkeypatch):
        frame, asked = self.frame(), {}

        def fetch_openml(**options):
            asked.update(options)
            return type("Found", (), {"frame": frame.copy()})

        monkeypatch.setattr(_concrete, "fetch_openml", fetch_openml)
        X, _ = fetch_uci_concrete(data_home=tmp_path, return_X_y=True)
        np.testing.assert_allclose(X, frame.iloc[:, :8])
        assert asked["name"] == "concrete_compressive_strength"

    def test_nothing_to_be_had(self, tmp_path, monkeypatch):
        def offline(**options):
            raise ConnectionError("no network")

        monkeypatch.setattr(_concrete, "fetch_openml", offline)
        with pytest.raises(OSError, match=r"download from OpenML failed \(no network\)"):
            fetch_uci_concrete(data_home=tmp_path)
        with pytest.raises(OSError, match="download_if_missing=False"):
            fetch_uci_concrete(data_home=tmp_path, download_if_missing=False)

    def test_wrong_file(self, tmp_path):
        self.frame().iloc[:-1].to_csv(tmp_path / "concrete.csv", index=False)
        with pytest.raises(ValueError, match=r"concrete.csv holds 1029 rows and 9 columns"):
            fetch_uci_concrete(data_home=tmp_path)


def test_data_home(monkeypatch, tmp_path):
    monkeypatch.setenv("INFLUENCEKIT_DATA", str(tmp_path))
    assert get_data_home() == tmp_path
    monkeypatch.delenv("INFLUENCEKIT_DATA")
    assert get_data_home().name == "influencekit_data"
    assert get_data_home("here").name == "here"


def test_real_files(data_home):
    found = fetch_acs_income("MA", data_home=data_home, download_if_missing=False)
    assert found.data.shape == (16_046, 10)
    assert fetch_uci_concrete(data_home=data_home).target.mean() == pytest.approx(35.818, abs=1e-3)
