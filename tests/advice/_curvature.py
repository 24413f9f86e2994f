"""Advice of curvatures, gradients and projections."""

from tests.advice._row import Row

__all__ = ["ROWS"]

FAR = "far = X * [1.0, 1.0, 1.0, 1e9]\n"

ROWS = [
    Row(
        "Arnoldi(rank=",
        "InfluenceFunction(Arnoldi(rank=30), max_memory='12kB').fit(*learned)",
        {
            "Lower its rank": (
                "InfluenceFunction(Arnoldi(rank=2, n_iterations=4), max_memory='12kB', "
                "batch_size=1).fit(*learned)"
            ),
        },
    ),
    Row(
        "Nystroem(rank=",
        "InfluenceFunction(Nystroem(rank=30), max_memory='12kB').fit(*learned)",
        {
            "Lower its rank": (
                "InfluenceFunction(Nystroem(rank=1), max_memory='12kB', batch_size=1).fit(*learned)"
            ),
        },
    ),
    Row(
        "Raise max_iter or rtol, or use preconditioner='nystroem' with",
        (
            "InfluenceFunction(ConjugateGradient(max_iter=1, rtol=1e-10), "
            "1e-6).fit(*learned).score(*two)"
        ),
        {
            "Raise max_iter or rtol": (
                "InfluenceFunction(ConjugateGradient(max_iter=100, rtol=1e-2), "
                "1e-2).fit(*learned).score(*two)"
            ),
            "use preconditioner='nystroem' with a higher preconditioner_rank": (
                "InfluenceFunction(ConjugateGradient(preconditioner='nystroem', "
                "preconditioner_rank=40, rtol=1e-3), 1e-2).fit(*learned).score(*two)"
            ),
            "a larger damping": (
                "InfluenceFunction(ConjugateGradient(max_iter=1, rtol=1e-2), "
                "1e4).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        "(damping='auto' does)",
        ("InfluenceFunction(ConjugateGradient(matrix='hessian'), 0.0).fit(*learned).score(*two)"),
        {
            "damping='auto' does": (
                "InfluenceFunction(ConjugateGradient(matrix='hessian'), "
                "damping='auto').fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        ", or use matrix='ggn', which has no negative eigenvalues",
        ("InfluenceFunction(ConjugateGradient(matrix='hessian'), 0.0).fit(*learned).score(*two)"),
        {
            "use matrix='ggn'": (
                "InfluenceFunction(ConjugateGradient(matrix='ggn'), 0.01).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        "damping: got 0 for a model with",
        "InfluenceFunction('datainf', 0).fit(*learned).score(*two)",
        {
            "Give one": "InfluenceFunction('datainf', 0.1).fit(*learned).score(*two)",
            "damping='auto'": (
                "InfluenceFunction('datainf', damping='auto').fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        " is too little for any curvature; the",
        "InfluenceFunction(max_memory=10).fit(*learned)",
        {
            "Raise max_memory": "InfluenceFunction(max_memory='1GB').fit(*learned)",
        },
    ),
    Row(
        "dimensions instead; set projection_dim to choose the",
        "InfluenceFunction(max_memory='10kB', random_state=0).fit(*learned)",
        {
            "set projection_dim to choose the size yourself": (
                "InfluenceFunction(max_memory='10kB', projection_dim=4, "
                "random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        "is of the raw columns, where rounding hides the small ones",
        FAR + "InfluenceFunction('cg').fit(LogisticRegression().fit(far, b), far, b)",
        {
            "Scale the features before the fit (StandardScaler)": (
                FAR + "from sklearn.preprocessing import StandardScaler\n"
                "scaled = StandardScaler().fit_transform(far)\n"
                "InfluenceFunction('cg').fit(LogisticRegression().fit(scaled, b), scaled, b)"
            ),
            "curvature='ggn'": (
                FAR
                + "InfluenceFunction(curvature='ggn').fit(LogisticRegression().fit(far, b), far, b)"
            ),
        },
    ),
    Row(
        ". Lower projection_dim or ",
        "InfluenceFunction(projection_dim=20, max_memory='1kB').fit(*learned)",
        {
            "Lower projection_dim": (
                "InfluenceFunction(projection_dim=2, max_memory='10kB').fit(*learned)"
            ),
            "raise max_memory": (
                "InfluenceFunction(projection_dim=20, max_memory='1GB').fit(*learned)"
            ),
        },
    ),
    Row(
        (
            ". Use curvature='ggn', or Arnoldi(matrix='hessian') or "
            "ConjugateGradient(matrix='hessian'),"
        ),
        "InfluenceFunction('hessian', max_memory='1kB').fit(*learned)",
        {
            "Use curvature='ggn'": (
                "InfluenceFunction(curvature='ggn', max_memory='10kB', projection_dim=4, "
                "random_state=0).fit(*learned)"
            ),
            "Arnoldi(matrix='hessian')": (
                "InfluenceFunction(Arnoldi(matrix='hessian'), random_state=0).fit(*learned)"
            ),
            "ConjugateGradient(matrix='hessian')": (
                "InfluenceFunction(ConjugateGradient(matrix='hessian')).fit(*learned)"
            ),
            "curvature='hessian'": "InfluenceFunction(curvature='hessian').fit(*learned)",
        },
    ),
    Row(
        "directions are left out, and those close",
        ("InfluenceFunction(Hessian(negative='keep'), damping=0.0).fit(*learned).score(*two)"),
        {
            "Use a damping above": (
                "InfluenceFunction(Hessian(negative='keep'), "
                "damping=10.0).fit(*learned).score(*two)"
            ),
            "Hessian(negative='drop')": (
                "InfluenceFunction(Hessian(negative='drop')).fit(*learned).score(*two)"
            ),
            "curvature='ggn'": "InfluenceFunction(curvature='ggn').fit(*learned).score(*two)",
        },
    ),
    Row(
        ". These directions are left out. Hessian(negative='keep') is the formula of the papers ",
        "InfluenceFunction('hessian').fit(*learned)",
        {
            "Hessian(negative='keep')": "InfluenceFunction(Hessian(negative='keep')).fit(*learned)",
            "Hessian(negative='absolute')": (
                "InfluenceFunction(Hessian(negative='absolute')).fit(*learned)"
            ),
            "curvature='ggn'": "InfluenceFunction(curvature='ggn').fit(*learned)",
        },
    ),
    Row(
        "Raise depth (None chooses it) or the",
        (
            "InfluenceFunction(LiSSA(depth=2, rtol=1e-8, scale=1e3), 0.01, "
            "random_state=0).fit(*learned).score(*two)"
        ),
        {
            "Raise depth (None chooses it) or the damping": (
                "InfluenceFunction(LiSSA(depth=None), 10.0, "
                "random_state=0).fit(*learned).score(*two)"
            ),
            "use ConjugateGradient()": (
                "InfluenceFunction(ConjugateGradient(), 0.1).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        ". Use scale=None or a larger one,",
        ("InfluenceFunction(LiSSA(scale=1e-3), 0.01, random_state=0).fit(*learned).score(*two)"),
        {
            "Use scale=None": (
                "InfluenceFunction(LiSSA(scale=None), 1.0, "
                "random_state=0).fit(*learned).score(*two)"
            ),
            "a larger rows_per_step": (
                "InfluenceFunction(LiSSA(rows_per_step=50), 1.0, "
                "random_state=0).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        "is used, which fits into max_memory. Set LoGra(rank=...)",
        ("InfluenceFunction('logra', max_memory='20kB', random_state=0).fit(*learned)"),
        {
            "Set LoGra(rank=...)": (
                "InfluenceFunction(LoGra(rank=2), max_memory='20kB', random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        "rank: LoGra's least, 1, one number for each layer (",
        ("InfluenceFunction('logra', projection_dim=1, random_state=0).fit(*learned)"),
        {
            "Raise projection_dim": (
                "InfluenceFunction('logra', projection_dim=10, random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        "Take LoGra(init='random'), which holds none",
        ("InfluenceFunction('logra', max_memory=1000, random_state=0).fit(*learned)"),
        {
            "or raise max_memory": (
                "InfluenceFunction('logra', max_memory='1GB', random_state=0).fit(*learned)"
            ),
            "Take LoGra(init='random')": (
                "InfluenceFunction(LoGra(init='random'), max_memory=1200, random_state=0, "
                "batch_size=1).fit(*learned)"
            ),
        },
    ),
    Row(
        "rank: LoGra's least, 1, one number for each layer (",
        ("InfluenceFunction(LoGra(init='random'), max_memory=100, random_state=0).fit(*learned)"),
        {
            "or max_memory": (
                "InfluenceFunction(LoGra(init='random'), max_memory='1GB', random_state=0)"
                ".fit(*learned)"
            ),
        },
    ),
    Row(
        ") both set the size of the projection",
        ("InfluenceFunction(LoGra(rank=2), projection_dim=10, random_state=0).fit(*learned)"),
        {
            "Give either rank, the size": (
                "InfluenceFunction(LoGra(rank=2), random_state=0).fit(*learned)"
            ),
            "or projection_dim": (
                "InfluenceFunction(LoGra(), projection_dim=10, random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        "numbers for each example and their curvature, but",
        ("InfluenceFunction(LoGra(rank=5), max_memory='2kB', random_state=0).fit(*learned)"),
        {
            "Lower rank": (
                "InfluenceFunction(LoGra(rank=1), max_memory='10kB', random_state=0).fit(*learned)"
            ),
            "raise max_memory": (
                "InfluenceFunction(LoGra(rank=5), max_memory='1GB', random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        ", or raise max_memory.",
        (
            "e = GradientEngine(module_task, max_memory=1000); "
            "Gradients(e, make_examples(module_task, Z, y), loss_cotangent(module_task)).features()"
        ),
        {
            "raise max_memory": (
                "e = GradientEngine(module_task, max_memory='1GB'); "
                "Gradients(e, make_examples(module_task, Z, y), "
                "loss_cotangent(module_task)).features()"
            ),
        },
    ),
    Row(
        ". Make one for this task with",
        (
            "p = make_projection(module_task, 4, random_state=0); "
            "Gradients(GradientEngine(other_task), make_examples(other_task, Z, y), "
            "loss_cotangent(other_task)).project(p)"
        ),
        {
            "Make one for this task with make_projection": (
                "p = make_projection(other_task, 4, random_state=0); "
                "Gradients(GradientEngine(other_task), make_examples(other_task, Z, y), "
                "loss_cotangent(other_task)).project(p)"
            ),
        },
    ),
    Row(
        "projection needs at least one dim per layer. Use a larger dim, or projection='factored',",
        ("TRAK(projection='two_sided', projection_dim=1, random_state=0).fit(*learned)"),
        {
            "Use a larger dim": (
                "make_projection(module_task, 8, projection='two_sided', random_state=0)"
            ),
            "projection='factored'": (
                "make_projection(module_task, 1, projection='factored', random_state=0)"
            ),
        },
    ),
    Row(
        "parameters features are not centered here, so",
        "far = np.random.default_rng(0).normal(size=(9, 2001)) + 1e5; "
        "InfluenceFunction().fit(Ridge().fit(far, t[:9]), far, t[:9])",
        {
            "(StandardScaler)": (
                "far = np.random.default_rng(0).normal(size=(9, 2001)) + 1e5; "
                "m = make_pipeline(StandardScaler(), Ridge()).fit(far, t[:9]); "
                "InfluenceFunction().fit(m, far, t[:9])"
            ),
        },
    ),
    Row(
        "damping='auto': the mean cosine of scores with",
        "InfluenceFunction(projection_dim=2, random_state=0).fit(LinearRegression().fit(wide, t), "
        "wide, t)",
        {
            "scale the features (StandardScaler)": (
                "m = make_pipeline(StandardScaler(), LinearRegression()).fit(wide, t); "
                "InfluenceFunction().fit(m, wide, t)"
            ),
            "or give a damping": (
                "InfluenceFunction(damping=0.1).fit(LinearRegression().fit(wide, t), wide, t)"
            ),
        },
    ),
]
