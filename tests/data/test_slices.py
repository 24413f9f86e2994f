"""Rows that are read slice by slice give the scores of the same rows in memory."""

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from torch import nn

from influencekit import AttributionIndex, GradDot, InfluenceFunction, as_task
from influencekit.data import RowSlices, make_examples, open_slices
from influencekit.data.slices._row_slices import taken

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 3))
Y = (X[:, 0] + RNG.logistic(size=70) > 0).astype(int)
MODEL = LogisticRegression().fit(X, Y)


class Cut:
    """Slices of uneven sizes, and how often each was read."""

    def __init__(self, X=X, y=Y, ends=(20, 21, 55, 70)):
        self.X, self.y, self.ends, self.read = X, y, ends, []

    def slices(self, start=0):
        for number, (a, b) in enumerate(zip((0, *self.ends), self.ends, strict=False)):
            if number >= start:
                self.read.append(number)
                rows = self.X.iloc[a:b] if hasattr(self.X, "iloc") else self.X[a:b]
                yield rows, None if self.y is None else self.y[a:b]


def frame():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    words = np.array(["red", "green", "blue"])[np.arange(70) % 3]
    return pd.DataFrame({"word": words, "size": X[:, 0], "age": X[:, 1]})


@pytest.mark.parametrize("attributor", [InfluenceFunction(), GradDot(batch_size=7)])
def test_scores_are_those_of_the_rows_in_memory(attributor):
    expected = attributor.fit(MODEL, X, Y).score(X[:5], Y[:5])
    found = attributor.fit(MODEL, Cut()).score(X[:5], Y[:5])
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert isinstance(Cut(), RowSlices)
    assert not isinstance(X, RowSlices)


def test_any_rows_in_any_order():
    cut = Cut()
    examples = make_examples(as_task(MODEL), cut)
    rows = np.array([60, 3, 20, 3, 19])
    found = next(examples.take(rows).batches(9))
    np.testing.assert_allclose(found.inputs.numpy(), X[rows])
    np.testing.assert_array_equal(found.targets.numpy().ravel(), Y[rows])
    again = next(pickle.loads(pickle.dumps(examples)).take(rows).batches(9))
    torch.testing.assert_close(again.inputs, found.inputs)


def test_a_pass_reads_each_slice_once():
    cut = Cut()
    examples = make_examples(as_task(MODEL), cut)
    list(examples.batches(5))
    cut.read.clear()
    list(examples.batches(5))
    assert cut.read == [0, 1, 2, 3]


def test_a_pipeline_transforms_slice_by_slice():
    table = frame()
    steps = make_column_transformer((OneHotEncoder(), ["word"]), remainder=StandardScaler())
    model = make_pipeline(steps, LogisticRegression()).fit(table, Y)
    expected = InfluenceFunction().fit(model, table, Y).score(table[:5], Y[:5])
    found = InfluenceFunction().fit(model, Cut(table)).score(table[:5], Y[:5])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_steps_that_need_all_rows_are_refused():
    table = frame()[["word"]]
    model = make_pipeline(TargetEncoder(random_state=0), LogisticRegression()).fit(table, Y)
    with pytest.raises(ValueError, match="gives rows that it learns from other values"):
        GradDot().fit(model, Cut(table, ends=(70,)))


def test_an_index_of_slices_has_the_bytes_of_the_rows_in_memory(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    task = as_task(net, loss=nn.CrossEntropyLoss())
    held = InfluenceFunction("fisher", damping=0.1)
    options = {"shard_rows": 30, "curvature_rows": 40}
    AttributionIndex(held, tmp_path / "a", **options).fit(task, X, Y)
    built = AttributionIndex(held, tmp_path / "b", **options).fit(task, Cut())
    for path in sorted((tmp_path / "a").glob("*.npy")):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    built.add_rows(X[:3], Y[:3])
    with pytest.raises(FileExistsError, match="other data"):
        AttributionIndex(held, tmp_path / "b", **options).fit(task, Cut(X + 1e-9))


def test_rows_of_slices_are_shown():
    table = frame()[["size", "age"]]
    model = LogisticRegression().fit(table, Y)
    expected = GradDot().fit(model, table, Y).top_k(table[:4], Y[:4], k=3, as_frame=True)
    found = GradDot().fit(model, Cut(table)).top_k(table[:4], Y[:4], k=3, as_frame=True)
    for name in ("row", "y", "size", "age"):
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name].to_numpy())


def test_npy_files(tmp_path):
    for i, rows in enumerate(np.split(np.arange(70), [10, 40])):
        np.save(tmp_path / f"X-{i}.npy", X[rows])
        np.save(tmp_path / f"y-{i}.npy", Y[rows])
    expected = GradDot().fit(MODEL, X, Y).score(X[:2], Y[:2])
    found = GradDot().fit(MODEL, open_slices(tmp_path)).score(X[:2], Y[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.save(tmp_path / "y-9.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"3 files X\*.npy and 4 files y\*.npy"):
        open_slices(tmp_path)


@pytest.mark.parametrize("slice_rows", [8, 1000])
def test_parquet_files(tmp_path, slice_rows):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    arrow = pytest.importorskip("pyarrow")
    table = frame()[["size", "age"]]
    whole = arrow.Table.from_pandas(table.assign(target=Y))
    for i, (a, b) in enumerate([(0, 30), (30, 70)]):
        parquet.write_table(whole.slice(a, b - a), tmp_path / f"{i}.parquet", row_group_size=20)
    model = LogisticRegression().fit(table, Y)
    rows = open_slices(tmp_path, target="target", slice_rows=slice_rows)
    sizes = [len(y) for _, y in rows.slices()]
    assert sizes == ([8, 8, 4, 8, 2] + [8, 8, 4] * 2 if slice_rows == 8 else [20, 10, 20, 20])
    last = list(rows.slices(start=3))
    np.testing.assert_array_equal(np.concatenate([y for _, y in last]), Y[sum(sizes[:3]) :])
    expected = GradDot().fit(model, table, Y).score(table[:2], Y[:2])
    np.testing.assert_allclose(GradDot().fit(model, rows).score(table[:2], Y[:2]), expected)
    swapped = open_slices(tmp_path, target="target", columns=["age", "size"])
    with pytest.raises(ValueError, match="the same columns in another order"):
        GradDot().fit(model, swapped)


def test_dask_arrays():
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    data = dask.from_array(X, chunks=(25, 2))
    rows = open_slices(data, target=dask.from_array(Y, chunks=25))
    expected = GradDot().fit(MODEL, X, Y).score(X[:2], Y[:2])
    np.testing.assert_allclose(GradDot().fit(MODEL, rows).score(X[:2], Y[:2]), expected)
    with pytest.raises(ValueError, match="target: got 1 partitions"):
        open_slices(data, target=dask.from_array(Y, chunks=70))


def test_dask_tables():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    dask = pytest.importorskip("dask.dataframe", reason="dask.dataframe is not installed")
    table = frame()[["size", "age"]]
    model = LogisticRegression().fit(table, Y)
    data = dask.from_pandas(table.assign(target=Y), npartitions=3)
    expected = GradDot().fit(model, table, Y).score(table[:2], Y[:2])
    for rows in (
        open_slices(data, target="target"),
        open_slices(data[["size", "age"]], target=data["target"]),
    ):
        np.testing.assert_allclose(GradDot().fit(model, rows).score(table[:2], Y[:2]), expected)


def test_hugging_face_datasets(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    table = frame()[["size", "age"]]
    model = LogisticRegression().fit(table, Y)
    datasets.Dataset.from_pandas(table.assign(target=Y)).save_to_disk(tmp_path / "set")
    rows = open_slices(tmp_path / "set", target="target", slice_rows=30)
    expected = GradDot().fit(model, table, Y).score(table[:2], Y[:2])
    np.testing.assert_array_equal(GradDot().fit(model, rows).score(table[:2], Y[:2]), expected)


def test_hugging_face_columns_are_those_of_the_table(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    table = frame()
    table.loc[3, "word"], table.loc[5, "size"] = None, np.nan
    table["age"] = table["age"].round().astype("Int64")
    table.loc[40, "age"] = None
    whole = datasets.Dataset.from_pandas(table.assign(target=Y))
    read = list(open_slices(whole, target="target", slice_rows=29).slices())
    assert [len(X) for X, _ in read] == [29, 29, 12]
    joined = type(table)({name: np.concatenate([part[name] for part, _ in read]) for name in table})
    assert (joined["word"].isna() == table["word"].isna()).all()
    assert joined["word"].dropna().tolist() == table["word"].dropna().tolist()
    np.testing.assert_array_equal(joined["size"], table["size"])
    np.testing.assert_array_equal(joined["age"].astype(float), table["age"].astype(float))
    np.testing.assert_array_equal(np.concatenate([y for _, y in read]), Y)
    (last, _), *_ = open_slices(whole.select([69, 0]), target="target").slices()
    assert last["word"].tolist() == [table["word"][69], table["word"][0]]

    vectors = datasets.Dataset.from_dict({"x": X.tolist(), "target": Y.tolist()})
    (rows, _), *_ = open_slices(vectors, target="target").slices()
    np.testing.assert_array_equal(rows, X)
    assert rows.dtype == np.float64
    words = open_slices(whole, target="target", columns=["word"])
    assert next(iter(words.slices()))[0].shape == (70,)
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "both")
    with pytest.raises(ValueError, match=r"holds several datasets \(test, train\)"):
        open_slices(tmp_path / "both", target="target")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (Cut(ends=()), "got no rows"),
        (Cut(y=None), "y: got None, but training examples need targets"),
        (Cut(np.where(np.arange(70)[:, None] == 60, np.nan, X)), "slice 3.*NaN or infinity"),
        (Cut(y=Y[:60]), "slice 3 has 15 rows and 5 targets"),
    ],
)
def test_bad_slices_are_told(rows, said):
    with pytest.raises(ValueError, match=said):
        GradDot().fit(MODEL, rows).score(X[:2], Y[:2])


def test_what_is_no_pair_is_told():
    class Bare:
        def slices(self, start=0):
            yield X

    with pytest.raises(TypeError, match=re.escape("slices() of Bare yielded a ndarray")):
        GradDot().fit(MODEL, Bare())
    with pytest.raises(ValueError, match="targets were given twice"):
        GradDot().fit(MODEL, Cut(), Y)


class Unsteady(Cut):
    """Slices that are others after the first pass."""

    def __init__(self, how):
        super().__init__()
        self.how, self.passes = how, 0

    def slices(self, start=0):
        found = list(super().slices())
        self.passes += 1
        if self.passes == 1 or self.how == "ignores start":
            yield from found
        elif self.how == "gone":
            yield from found[start:3]
        else:  # two of its rows change places
            places = np.r_[1, 0, 2:20]
            yield from [(found[0][0][places], found[0][1][places]), *found[1:]][start:]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("ignores start", "slice 2 has other rows"),
        ("gone", "slice 3 is gone"),
        ("moved", "slice 0"),
    ],
)
def test_slices_that_do_not_stay_are_refused(how, said):
    rows = np.array([40]) if how == "ignores start" else np.arange(70)
    with pytest.raises(ValueError, match=f"X: {said}.*compared with the first pass"):
        list(make_examples(as_task(MODEL), Unsteady(how)).take(rows).batches(99))


def test_a_method_without_a_start_is_told():
    class Bare:
        def slices(self):
            yield X, Y

    with pytest.raises(TypeError, match=r"accepted is a method slices\(self, start=0\)"):
        GradDot().fit(MODEL, Bare())


def test_numbers_in_the_names_of_npy_files_are_numbers(tmp_path):
    for i, rows in enumerate(np.split(np.arange(70), 14)):
        np.save(tmp_path / f"X-{i}.npy", X[rows])
        np.save(tmp_path / f"y-{i}.npy", Y[rows])
    found = np.concatenate([rows for rows, _ in open_slices(tmp_path).slices()])
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("names", [("0", "1", "1", "2"), ("1", "10", "01", "10")])
def test_npy_files_without_their_other_half_are_refused(tmp_path, names):
    for name, rows in zip(names, (X, X, Y, Y), strict=True):
        np.save(tmp_path / f"{'X' if rows is X else 'y'}-{name}.npy", rows)
    with pytest.raises(ValueError, match="pairs whose names differ in the first letter only"):
        open_slices(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", "one value"])
def test_npy_files_that_are_no_rows_are_named(tmp_path, content):
    if isinstance(content, bytes):
        (tmp_path / "X-0.npy").write_bytes(content)
    else:
        np.save(tmp_path / "X-0.npy", np.float64(1))
    with pytest.raises(ValueError, match=r"X-0\.npy' (cannot be read|holds one value)") as told:
        GradDot().fit(MODEL, open_slices(tmp_path), Y)
    assert "pickle" not in str(told.value)


def test_parquet_files_with_other_columns_are_named(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = frame()[["size", "age"]].assign(y=Y)
    table.to_parquet(tmp_path / "a.parquet")
    table.drop(columns="age").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet' has no column 'age'"):
        list(open_slices(tmp_path, target="y").slices())


def test_rows_beyond_the_slices_are_refused():
    with pytest.raises(ValueError, match="got slices with 70 rows, and the row at position 90"):
        taken(Cut(), np.array([3, 90]))


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ("none.parquet", {}, "there is no file or folder"),
        (X, {}, "a class with one method"),
        (__file__, {}, "accepted are .parquet files"),
        (__file__, {"slice_rows": 0}, "slice_rows: got 0"),
    ],
)
def test_what_cannot_be_opened_is_told(given, options, said):
    with pytest.raises(ValueError, match=said):
        open_slices(given, **options)
