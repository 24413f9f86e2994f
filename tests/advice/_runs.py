"""Advice of averages along the run and of scores that learn from retrained outputs."""

from tests.advice._row import Row

__all__ = ["ROWS"]

KEPT = "skorch_net(callbacks=[KeepCheckpoints(n=4)]).fit(Z, y)"

ROWS = [
    Row(
        "attributor: got one that scores groups; accepted is an attributor of single examples. Put",
        "RunAverage(GroupAttributor(GradDot())).fit(net, Z, y)",
        {
            "Put the groups around the average: GroupAttributor(RunAverage())": (
                f"GroupAttributor(RunAverage()).fit({KEPT}, Z, y, groups=y)"
            ),
        },
    ),
    Row(
        "which RunAverage does not pass on",
        "RunAverage(LDSSearch(GradDot())).fit(net, Z, y)",
        {
            "LDSSearch(RunAverage())": (
                f"LDSSearch(RunAverage(), **quick).fit({KEPT}, Z, y, X_query=Z[:9], y_query=y[:9])"
            ),
        },
    ),
    Row(
        "did not keep checkpoints of its training",
        "RunAverage().fit(skorch_net().fit(Z, y), Z, y)",
        {
            "Train with callbacks=[KeepCheckpoints(n=8)] (skorch)": (
                "net = skorch_net(callbacks=[KeepCheckpoints(n=8)]).fit(Z, y); "
                "RunAverage().fit(net, Z, y)"
            ),
            "inside record_checkpoints (a plain loop)": (
                "module = Net()\n"
                "optimizer = torch.optim.SGD(module.parameters(), lr=0.1)\n"
                "with record_checkpoints(module, optimizer) as recorder:\n"
                "    optimizer.step()\n"
                "task = as_task(module, nn.CrossEntropyLoss())\n"
                "RunAverage(checkpoints=recorder).fit(task, Z, y)"
            ),
            "retrain=True": "RunAverage(retrain=True).fit(skorch_net().fit(Z, y), Z, y)",
        },
    ),
    Row(
        "Record weights alone, for RunAverage",
        "skorch_net(optimizer=torch.optim.ASGD, callbacks=[TrajectoryRecorder()]).fit(Z, y)",
        {
            "Record weights alone, for RunAverage: TrainerCheckpoints or KeepCheckpoints.": (
                "net = skorch_net(optimizer=torch.optim.ASGD, callbacks=[KeepCheckpoints(n=8)])"
                ".fit(Z, y); RunAverage().fit(net, Z, y)  # TrainerCheckpoints of a Trainer"
            ),
        },
    ),
    Row(
        "a Trajectory does not contain the model",
        "RunAverage().fit(recorded()[1].trajectory_, Z, y)",
        {
            "RunAverage(checkpoints=trajectory)": (
                "task, recorder = recorded(); trajectory = recorder.trajectory_; "
                "RunAverage(checkpoints=trajectory).fit(task, Z, y)"
            ),
        },
    ),
    Row(
        "cannot be trained again with checkpoints",
        "RunAverage(retrain=True).fit(model, X, y)",
        {
            "RunAverage(checkpoints=states)": (
                "states = [net.module_.state_dict()]; RunAverage(checkpoints=states).fit(net, Z, y)"
            ),
        },
    ),
    Row(
        "but the retrained models were evaluated on another output",
        (
            "GroupAttributor(SubsetPosterior(None, n_trainings=3), property='mean_neg_loss')"
            ".fit(model, X, y, X_query=X[:9], y_query=y[:9])"
        ),
        {
            "Fit again, with this output= of the attributor": (
                "SubsetPosterior(None, n_trainings=3, output='margin')"
                ".fit(model, X, y, X_query=X[:9], y_query=y[:9])"
            ),
        },
    ),
    Row(
        "was not given to fit",
        (
            "SubsetPosterior(None, n_trainings=3).fit(model, X, y, X_query=X[:9], "
            "y_query=y[:9]).score(X[9:12])"
        ),
        {
            "known only for X_query and y_query: add the row there, and fit again": (
                "X_query, y_query = X[:12], y[:12]; SubsetPosterior(None, n_trainings=3).fit("
                "model, X, y, X_query=X_query, y_query=y_query).score(X[9:12])"
            ),
        },
    ),
    Row(
        "retrained models must be compared on the same targets",
        "SubsetPosterior(None, n_trainings=3).fit(model, X, y, X_query=X[:9])",
        {
            "Give y_query, for instance model.predict(X_query)": (
                "X_query = X[:9]; SubsetPosterior(None, n_trainings=3)"
                ".fit(model, X, y, X_query=X_query, y_query=model.predict(X_query))"
            ),
        },
    ),
    Row(
        "X_query: got None; scores that learn from retrained outputs",
        "SubsetPosterior(None, n_trainings=3).fit(model, X, y)",
        {
            "Give them: fit(model, X, y, X_query=X_test, y_query=y_test)": (
                "X_test, y_test = X[:9], y[:9]; SubsetPosterior(None, n_trainings=3)"
                ".fit(model, X, y, X_query=X_test, y_query=y_test)"
            ),
        },
    ),
]
