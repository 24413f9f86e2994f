"""Language models and the Trainer: what recording costs, what scores are worth, seconds of a fit?

A Llama of 260,000 parameters goes on training on passages of Shakespeare, by the Trainer of the
transformers library with its AdamW, linear schedule and clipping.  Without the files of the data
folder: a smaller one with random weights, on random tokens.
"""

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import number
from benchmarks.measures import language as measures
from benchmarks.problems import language
from influencekit import GradDot, InfluenceFunction, RunAverage
from influencekit.training import TrainerCheckpoints, TrainerRecorder


def row(measured, n_train, n_test, length, n_reruns, n_halves, n_runs):
    tokens = language.texts(n_train + n_test, length)
    train, test = tokens[:n_train], tokens[n_train:]
    return MEASURED[measured](train, test, n_reruns, n_halves, n_runs)


def recording(train, _test, _n_reruns, _n_halves, n_runs):
    kinds = {"nothing": list, "weights, TrainerCheckpoints(n=8)": lambda: [TrainerCheckpoints(n=8)],
             "the run, TrainerRecorder()": lambda: [TrainerRecorder()]}  # fmt: skip
    seconds, own, runs = ({name: [] for name in kinds} for _ in range(3))
    for _ in range(n_runs):
        for name, make in kinds.items():
            runs[name] = language.trainer(language.model(), language.items(train), kept := make())
            with measures.own_time(kept) as spent:
                seconds[name].append(cost_of(runs[name].train)[0]["cpu_seconds"])
            own[name].append(sum(spent))
    plain = min(seconds["nothing"])
    return [{"kept": name, "training, CPU s": min(seconds[name]),
             "of it recording, %": 100 * min(own[name]) / plain, "kept, MB": measures.kept_mb(run),
             "same weights": measures.equal_weights(runs["nothing"], run),
             "replay off": measures.replay_error(run, train)}
            for name, run in runs.items()]  # fmt: skip


def halves(train, test, _n_reruns, n_halves, _n_runs):
    run, members, truth = measures.on_halves(train, test, n_halves)
    X, queries = run.train_dataset, language.items(test)
    each = {"GradDot": GradDot(), "LoGra": InfluenceFunction("logra", random_state=0)}
    return [{"scores": name, "end": measures.lds(one.fit(run, X).score(queries), members, truth),
             "average": measures.lds(RunAverage(one).fit(run, X).score(queries), members, truth)}
            for name, one in each.items()]  # fmt: skip


def tables(rows):
    of = {kind: [r for r in rows if r["measured"] == kind] for kind in MEASURED}
    return {f"language, {kind}": measures.table(Table, number, some) for kind, some in of.items()}


MEASURED = {"recording": recording, "removal": measures.removal, "cost": measures.cost,
            "float32": measures.float32, "halves": halves}  # fmt: skip
SETTINGS = {"n_test": 16, "length": 64, "n_reruns": 32, "n_halves": 24, "n_runs": 3}
STUDY = Study(
    __doc__, row,
    [{"measured": ["recording", "cost"], "n_train": [500]},
     {"measured": ["removal", "halves"], "n_train": [128]},
     {"measured": ["float32"], "n_train": [24]}],
    SETTINGS,
    Size({"measured": list(MEASURED), "n_train": [16]},
         {"n_test": 2, "length": 6, "n_reruns": 2, "n_halves": 3, "n_runs": 1}),
    tables=tables, needs=("lm_stories260k", "tiny_shakespeare"), fresh=True,
)  # fmt: skip
