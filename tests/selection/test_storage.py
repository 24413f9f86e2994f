"""Files of studies: whole after a kill, locked while they are made, refused where they are not."""

import os
import sqlite3

import optuna
import pytest
import sqlalchemy
from sklearn.linear_model import LogisticRegression

from influencekit import InfluenceFunction, LDSSearch
from influencekit.selection._storage import check_storage
from tests._shared.problems import digits_problem


def made_until(n_statements, url):
    """Open storage in a child that ends before so many tables and indexes are made; its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [n_statements]

    def count(connection, cursor, statement, *rest):
        left[0] -= statement.lstrip().startswith("CREATE")
        if left[0] < 0:
            os._exit(1)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", count)
    check_storage(url)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["study.db", "study"])
@pytest.mark.parametrize("n_statements", [0, 1, 2, 3, 7, 12])
def test_a_kill_while_a_file_is_made_leaves_none_of_it(n_statements, name, tmp_path):
    url = f"sqlite:///{tmp_path / name}"
    assert made_until(n_statements, url) == 256
    check_storage(url)
    optuna.create_study(storage=url, study_name="one")
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=url, study_name="one")
    assert sorted(os.listdir(tmp_path)) == [name, f"{name}.lock"]


def test_an_existing_file_is_kept(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="one")
    check_storage(url)
    assert optuna.get_all_study_names(url) == ["one"]


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_a_file_with_two_studies_of_one_name_is_named(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="one")
    with sqlite3.connect(tmp_path / "study.db") as connection:  # as a kill leaves it
        connection.execute("DROP INDEX ix_studies_study_name")
        connection.execute("INSERT INTO studies (study_name) VALUES ('one')")
    model, X, y, X_query, y_query = digits_problem(LogisticRegression(max_iter=500), 60, 10)
    search = LDSSearch(InfluenceFunction("fisher"), storage=url, study_name="one", n_subsets=8)
    with pytest.raises(ValueError, match="storage: the study 'one' cannot be opened in it"):
        search.fit(model, X, y, X_query=X_query, y_query=y_query)
