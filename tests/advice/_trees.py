"""Advice on models of trees."""

from tests.advice._row import Row

__all__ = ["ROWS"]

ROWS = [
    Row(
        ", whose trees have no gradients.",
        "as_task(RandomForestClassifier(3).fit(X, y))",
        {
            "TreeInfluence().fit(model, X_train, y_train)": (
                "model, X_train, y_train = RandomForestClassifier(3).fit(X, y), X, y; "
                "TreeInfluence().fit(model, X_train, y_train)"
            ),
            "influencekit.TreeInfluence": (
                "TreeInfluence().fit(RandomForestClassifier(3).fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "are not the means of its rows",
        (
            "m = RandomForestRegressor(3, criterion='absolute_error').fit(X, t); "
            "TreeInfluence('leaf').fit(m, X, t)"
        ),
        {
            "method='kernel'": (
                "m = RandomForestRegressor(3, criterion='absolute_error').fit(X, t); "
                "TreeInfluence(method='kernel').fit(m, X, t)"
            ),
        },
    ),
    Row(
        "cannot be computed from its training rows",
        (
            "m = GradientBoostingRegressor(n_estimators=3, subsample=0.5).fit(X, t); "
            "TreeInfluence('leaf').fit(m, X, t)"
        ),
        {
            "method='kernel'": (
                "m = GradientBoostingRegressor(n_estimators=3, subsample=0.5).fit(X, t); "
                "TreeInfluence(method='kernel').fit(m, X, t)"
            ),
        },
    ),
    Row(
        "max_memory: the leaves and factors of",
        "TreeInfluence(max_memory='1KB').fit(RandomForestClassifier(9).fit(X, y), X, y)",
        {
            "Raise max_memory": (
                "TreeInfluence(max_memory='1MB').fit(RandomForestClassifier(9).fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "method: labels have exact weights with",
        (
            "m = GradientBoostingRegressor(n_estimators=3).fit(X, t); "
            "TreeInfluence('leaf').fit(m, X, t).label_weights(X)"
        ),
        {
            "method='axil'": (
                "m = GradientBoostingRegressor(n_estimators=3).fit(X, t); "
                "TreeInfluence(method='axil').fit(m, X, t).label_weights(X)"
            ),
            "Fit TreeInfluence(method='axil')": (
                "m = RandomForestRegressor(3).fit(X, t); "
                "TreeInfluence(method='axil').fit(m, X, t).label_weights(X)"
            ),
        },
    ),
    Row(
        "drew for its trees do not fall into their leaves",
        (
            "m = RandomForestClassifier(5, random_state=0).fit(X, y); "
            "TreeInfluence('kernel').fit(m, X[::-1], y[::-1])"
        ),
        {
            "Give X, y and sample_weight exactly as": (
                "w = np.ones(len(y)); "
                "m = RandomForestClassifier(5, random_state=0).fit(X, y, sample_weight=w); "
                "TreeInfluence('kernel').fit(m, X, y, sample_weight=w)"
            ),
        },
    ),
    Row(
        "also counts the classes of held-out rows",
        (
            "m = HistGradientBoostingClassifier(class_weight='balanced', max_iter=3, "
            "early_stopping=True).fit(X, y); TreeInfluence('leaf').fit(m, X, y)"
        ),
        {
            "give class_weight as a dict": (
                "m = HistGradientBoostingClassifier(class_weight={0: 1, 1: 1, 2: 2}, max_iter=3, "
                "early_stopping=True, random_state=0).fit(X, y); "
                "TreeInfluence('leaf').fit(m, X, y)"
            ),
        },
    ),
]
