"""Loaders of downloaded files, on tiny files of the same format."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from influencekit.datasets import load_heloc, load_uci_energy

OTHERS = [
    "ExternalRiskEstimate", "MSinceOldestTradeOpen", "MSinceMostRecentTradeOpen", "AverageMInFile",
    "NumSatisfactoryTrades", "NumTrades60Ever2DerogPubRec", "NumTrades90Ever2DerogPubRec",
    "PercentTradesNeverDelq", "MaxDelqEver", "NumTotalTrades", "NumTradesOpeninLast12M",
    "PercentInstallTrades", "NumInqLast6M", "NumInqLast6Mexcl7days", "NetFractionRevolvingBurden",
    "NetFractionInstallBurden", "NumRevolvingTradesWBalance", "NumInstallTradesWBalance",
    "NumBank2NatlTradesWHighUtilization", "PercentTradesWBalance",
]  # fmt: skip
DELINQUENCY, INQUIRY = "MSinceMostRecentDelq", "MSinceMostRecentInqexcl7days"
RECORD = "MaxDelq2PublicRecLast12M"


def applications():
    """Twelve rows; the fourth has no record at all."""
    frame = pd.DataFrame({name: np.arange(12) + i for i, name in enumerate(OTHERS)})
    frame[DELINQUENCY] = [-7, 4, -8, 0, 8, -9, 1, 1, 1, 1, 1, 1]
    frame[INQUIRY] = [-7, -8, 5, 0, 3, -9, 2, 2, 2, 2, 2, 2]
    frame[RECORD] = [9, 8, 3, 0, -9, 1, 7, 7, 7, 7, 7, 7]
    frame.loc[2, "NumTotalTrades"] = -8
    frame.loc[3] = -9
    frame.insert(0, "RiskPerformance", ["Good", "Bad"] * 6)
    return frame


@pytest.fixture
def heloc(tmp_path):
    path = tmp_path / "heloc_dataset_v1.csv"
    applications().to_csv(path, index=False)
    return path


def test_codes_of_heloc_become_numbers_by_the_papers_rules(heloc):
    data = load_heloc(heloc, as_frame=True).data
    assert data.shape == (11, 23)  # without the row that is -9 throughout
    months = (4 + 8 + 6 * 1) / 8
    assert data[DELINQUENCY].tolist() == [9, 4, months, 8, months, 1, 1, 1, 1, 1, 1]
    months = (5 + 3 + 6 * 2) / 8
    assert data[INQUIRY].tolist() == [0, 6, 5, 3, months, 2, 2, 2, 2, 2, 2]
    mean = (7 + 7 + 3 + 1 + 6 * 7) / 10
    assert data[RECORD].tolist() == pytest.approx([7, 7, 3, mean, 1, 7, 7, 7, 7, 7, 7])
    raw = applications().drop(index=3)
    trades = raw["NumTotalTrades"].replace(-8, np.nan)
    np.testing.assert_allclose(data["NumTotalTrades"], trades.fillna(trades.mean()))
    np.testing.assert_array_equal(data["AverageMInFile"], raw["AverageMInFile"])


def test_good_is_one_and_a_tenth_is_for_testing(heloc):
    found = load_heloc(heloc)
    assert found.target.tolist() == [1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0]
    train, test = train_test_split(np.arange(11), test_size=0.1, random_state=0)
    assert found.train_rows.tolist() == train.tolist() and found.test_rows.tolist() == test.tolist()
    X, y = load_heloc(heloc, return_X_y=True)
    assert X.shape == (11, 23) and X.dtype == float and y.tolist() == found.target.tolist()


def test_energy_has_the_first_target_only(tmp_path):
    names = [*(f"X{i}" for i in range(1, 9)), "Y1", "Y2"]
    frame = pd.DataFrame(np.random.default_rng(0).random((20, 10)), columns=names)
    path = tmp_path / "ENB2012_data.csv"
    pd.concat([frame, pd.DataFrame(np.nan, range(3), names)]).to_csv(path, index=False)
    found = load_uci_energy(path)
    np.testing.assert_allclose(found.data, frame[names[:8]])
    np.testing.assert_allclose(found.target, frame["Y1"])
    train, test = train_test_split(np.arange(20), test_size=0.1, random_state=0)
    assert (found.train_rows.tolist(), found.test_rows.tolist()) == (train.tolist(), test.tolist())
    assert load_uci_energy(path, as_frame=True).frame.columns.tolist() == names[:9]


@pytest.mark.parametrize("load", [load_heloc, load_uci_energy])
def test_what_is_wrong_with_a_file_is_said(load, tmp_path):
    with pytest.raises(OSError, match=r"path: got .*nothing\.csv.* is not a file; .* Download it"):
        load(tmp_path / "nothing.csv")
    pd.DataFrame({"Y1": [1.0]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv has no column \[.*it has \['Y1'\]"):
        load(tmp_path / "a.csv")


def test_other_labels_are_named(tmp_path):
    frame = applications()
    frame.loc[0, "RiskPerformance"] = "Fair"
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"RiskPerformance holds \['Fair'\]"):
        load_heloc(tmp_path / "a.csv")
